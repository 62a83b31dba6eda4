import type { Pool } from '../db/pool.js'
import { DualstoreError } from '../errors.js'
import type { Item } from '../schemas/item.js'
import { type MarkedDocument, readMarked, type Write, type WriteOutcome } from '../store/documents.js'
import { type Gatherer, noRoom, type Written } from './gatherer.js'
import { type Access, isRestricted, type Principal } from './principal.js'
import { outsideRows, sees } from './rows.js'
import { refused } from './settled.js'
import { createTurns } from './turns.js'

/** The gatherer as a principal may use it: says whose the writes are, and keeps them inside its rows. */
export interface Writer {
  /** @throws OVERLOADED when a write would be refused at this moment: before its body is read, which costs the most. */
  requireRoom(): void
  /**
   * Writes one document. To a principal with rows a document outside of them looks missing, or taken where the write
   * would make it.
   * @throws what the gatherer throws; FORBIDDEN for a document that would be outside; CONFLICT when others change it
   * all the time.
   */
  write(access: Access, write: Write): Promise<Written>
  /** Many of one collection, each as `write` would: in their order, never rejecting. */
  writeAll(access: Access, writes: readonly Write[]): Promise<PromiseSettledResult<Written>[]>
}

/** How often a write is decided anew because the document became another one between the look and the write. */
const ATTEMPTS = 20
const WRITES = ['created', 'replaced', 'deleted'] as const

export function createWriter({ pool, gatherer }: { pool: Pool; gatherer: Gatherer }): Writer {
  // Restricted writes of one document wait for each other here instead of making each other look again.
  const turns = createTurns()

  /**
   * Looks what is there, decides, and writes on exactly that state; whatever became another one is looked at again.
   * So the check holds for what is replaced, whoever writes at the same time.
   */
  const writeInside = async (
    principal: Principal,
    writes: readonly Write[],
  ): Promise<PromiseSettledResult<Written>[]> => {
    const results = new Array<PromiseSettledResult<Written>>(writes.length)
    let open = writes.map((write, index) => ({ write, index }))
    for (let attempt = 1; open.length > 0; attempt++) {
      const [first] = open
      const ids = open.map(({ write }) => write.id)
      const stored = await readMarked(pool, first?.write.collection ?? '', ids)
      const sent: { write: Write; index: number; send: Write }[] = []
      for (const { write, index } of open) {
        const decision = decide(principal, write, stored.get(write.id))
        if ('send' in decision) sent.push({ write, index, send: decision.send })
        else results[index] = decision.result
      }
      const answers = await gatherer.writeAll(sent.map(({ send }) => send))
      open = sent.filter(({ write, index }, place) => {
        const answer = answers[place] as PromiseSettledResult<Written>
        if (!isOvertaken(write, answer)) results[index] = withoutVersion(answer)
        else if (attempt >= ATTEMPTS) results[index] = refused(tooBusy())
        else return true
        return false
      })
    }
    return results
  }

  return {
    requireRoom() {
      if (gatherer.full) throw noRoom()
    },

    async write(access, write) {
      sign(write, access)
      if (!isRestricted(access.principal)) return gatherer.write(write)
      const key = `${write.collection}\u0000${write.id}`
      const [result] = await turns.take(key, () => writeInside(access.principal, [write]))
      if (result?.status === 'fulfilled') return result.value
      throw result?.reason
    },

    async writeAll(access, writes) {
      const { principal } = access
      for (const write of writes) sign(write, access)
      if (!isRestricted(principal)) return gatherer.writeAll(writes)
      // One after the other: two lines of an import may be of one document.
      const key = `${writes[0]?.collection}\u0000\u0000${principal.id}`
      return turns
        .take(key, () => writeInside(principal, writes))
        .catch((error: unknown) => writes.map(() => refused(error)))
    },
  }
}

function sign(write: Write, { principal, address }: Access): void {
  write.author = principal.id
  write.address = address
}

type Decision = { send: Write } | { result: PromiseSettledResult<Written> }

/** What a write becomes, given what is stored. */
function decide(principal: Principal, write: Write, stored: MarkedDocument | undefined): Decision {
  const { mode, ifVersion } = write
  const makes = mode === 'create' || mode === 'put' || mode === 'load'
  if (mode === 'create' || (makes && stored === undefined)) {
    if (!sees(principal, JSON.parse(write.text) as Item)) return { result: refused(outsideRows()) }
    return { send: { ...write, mode: 'create' } }
  }
  const before = stored && (JSON.parse(stored.text) as Item)
  if (stored === undefined || before === undefined || !sees(principal, before)) {
    return { result: told(makes ? { outcome: 'exists', version: 0 } : { outcome: 'missing' }) }
  }
  if (ifVersion !== null && ifVersion !== stored.version) {
    return { result: told({ outcome: 'version_mismatch', version: stored.version }) }
  }
  const bound = { ...write, ifVersion: stored.version, ifMark: stored.mark }
  if (mode === 'delete') return { send: bound }
  const keepsCreation = mode === 'put' || mode === 'replace'
  const after = JSON.parse(write.text) as Item
  if (!sees(principal, keepsCreation ? { ...after, created_at: before.created_at } : after)) {
    return { result: refused(outsideRows()) }
  }
  return { send: { ...bound, mode: keepsCreation ? 'replace' : 'reload' } }
}

/** True when the document was no longer what it had been when the write was decided. */
function isOvertaken(asked: Write, answer: PromiseSettledResult<Written>): boolean {
  if (answer.status === 'rejected' || asked.mode === 'create') return false
  return !(WRITES as readonly string[]).includes(answer.value.outcome)
}

/** Of a document that took the id before, nothing is told: it may be outside. */
function withoutVersion(answer: PromiseSettledResult<Written>): PromiseSettledResult<Written> {
  if (answer.status === 'rejected' || answer.value.outcome !== 'exists') return answer
  return told({ outcome: 'exists', version: 0 })
}

const told = (outcome: WriteOutcome): PromiseSettledResult<Written> => ({
  status: 'fulfilled',
  value: { ...outcome, position: null },
})

function tooBusy(): DualstoreError {
  return new DualstoreError('CONFLICT', 'the document is changed too often by others; try again')
}

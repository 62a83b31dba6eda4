import { setTimeout as delay } from 'node:timers/promises'
import type { Pool } from '../../db/pool.js'
import { MIRROR_FOLLOWER } from '../../followers/mirror.js'
import type { Mirror } from '../../mirror/contract.js'
import type { CollectionDefinition } from '../../schemas/collection.js'
import { changedBetween, readDocumentsAt } from '../../store/chunks.js'
import { parkedAmong } from '../../store/parked.js'
import { readFollowers } from '../../store/positions.js'
import { compareDocument } from './compare.js'
import type { Finding } from './findings.js'

export interface SettlerOptions {
  pool: Pool
  mirror: Mirror
  /** How long a document may be on its way before it counts as unsettled. */
  patienceMs: number
}

/** Decides about documents that looked different. */
export type Settle = (
  definition: CollectionDefinition,
  ids: readonly string[],
  signal: AbortSignal,
) => Promise<Finding[]>

const POLL_MS = 50
/** How often a document is looked at; whoever writes it faster than this is not waited for. */
const LOOKS = 5

/**
 * A document that looked different may only be on its way. The mirror has every change up to its follower's position,
 * read first; the document in PostgreSQL is read last, at a position of the log. When the log holds no change of it
 * between the two, both must be alike, and a difference is one. Otherwise it is looked at again when the follower has
 * passed that position.
 */
export function createSettle({ pool, mirror, patienceMs }: SettlerOptions): Settle {
  /** A position that the follower did not reach in time: until it does, nobody waits again. */
  let given = 0

  const follower = async () => {
    const found = (await readFollowers(pool)).find(({ id }) => id === MIRROR_FOLLOWER)
    return { position: found?.position ?? 0, led: found?.led ?? false }
  }

  /** True when the follower has passed the position in time. */
  const passed = async (position: number, deadline: number, signal: AbortSignal): Promise<boolean> => {
    for (;;) {
      const now = await follower()
      if (now.position >= position) return true
      if (!now.led || now.position < given || Date.now() >= deadline) {
        given = Math.max(given, position)
        return false
      }
      await delay(POLL_MS, undefined, { signal })
    }
  }

  return async (definition, ids, signal) => {
    const findings: Finding[] = []
    const { name: collection } = definition
    const deadline = Date.now() + patienceMs
    let open = [...ids]
    for (let look = 1; open.length > 0; look++) {
      signal.throwIfAborted()
      const { position: mirrored } = await follower()
      const raws = await mirror.rawMany(definition, open)
      const { position, floor, documents } = await readDocumentsAt(pool, collection, open)
      const unlike = open.flatMap((id): Finding[] => {
        const version = documents.get(id)?.version
        const compared = compareDocument(definition, documents.get(id), raws.get(id), position)
        if (compared.kind === 'equal') return []
        return [{ collection, id, ...(version !== undefined && { version }), ...compared }]
      })
      if (unlike.length === 0) break
      const documentsOf = unlike.map(({ id }) => ({ collection, id }))
      const reasons = new Map(
        (await parkedAmong(pool, MIRROR_FOLLOWER, documentsOf)).map(({ id, reason }) => [id, reason]),
      )
      const changed = await changedBetween(pool, collection, open, { after: mirrored, upTo: position })
      const moving: Finding[] = []
      for (const finding of unlike) {
        const reason = reasons.get(finding.id)
        if (reason !== undefined) findings.push({ ...finding, kind: 'parked', reason })
        // Of what the log no longer holds nobody can say whether it has changed.
        else if (mirrored < floor || changed.has(finding.id)) moving.push(finding)
        else findings.push(finding)
      }
      if (moving.length > 0 && !(await passed(position, deadline, signal))) {
        const reason = `still on its way to the mirror at position ${position}`
        findings.push(...moving.map((finding): Finding => ({ ...finding, kind: 'unsettled', reason })))
        break
      }
      if (moving.length > 0 && (look === LOOKS || Date.now() >= deadline)) {
        const reason = 'changed again and again while it was looked at'
        findings.push(...moving.map((finding): Finding => ({ ...finding, kind: 'unsettled', reason })))
        break
      }
      open = moving.map(({ id }) => id)
    }
    return findings
  }
}

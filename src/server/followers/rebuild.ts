import type { Pool } from '../db/pool.js'
import { everything } from '../filter/ast.js'
import type { Mark, Mirror, Rejection } from '../mirror/contract.js'
import type { Item } from '../schemas/item.js'
import { unparkDocuments } from '../store/parked.js'
import { readRebuild, type StoredRebuild, storeRebuild } from '../store/rebuilds.js'
import { scanPage } from '../store/scan.js'
import { readAbsent, readParkedGone } from '../store/sweep.js'
import type { Log } from './contract.js'
import type { Chore } from './position-loop.js'
import { placeInPlan, planRebuild, type RebuildTask } from './rebuild-plan.js'

export interface RebuildOptions {
  pool: Pool
  /** The follower whose mirror it is. */
  id: string
  mirror: Mirror
  log: Log
  /** The id of the rebuild that is ordered; undefined when there is none. */
  ordered(): string | undefined
  /** Parks what the mirror cannot take. */
  park(rejections: readonly Rejection[]): Promise<void>
  /** Told when it is done. */
  onFinished(): void
}

/** A rebuild as the leader of a term does it. */
interface Rebuilding {
  term: number
  stored: StoredRebuild
  plan: RebuildTask[]
  /** The place in the plan; at its length everything is done. */
  at: number
  /** True when the task at hand has only been begun by this object. */
  fresh: boolean
  /** What the sweep at hand goes through. */
  marks: AsyncIterator<Mark> | undefined
  checkpointAt: number
}

const CHECKPOINT_MS = 1000

/**
 * Builds a mirror anew under its readers, a page at a time, while following goes on between the pages:
 *
 * 1. write: every document of PostgreSQL, as it is at the position p of the log at which its page is read. In the
 *    mirror it then stands at p, so changes up to p are refused there and later ones win (I4).
 * 2. sweep: every document of the mirror that stands before p and that PostgreSQL does not have at p goes.
 *
 * No document that exists all the while is ever missing, because nothing is removed that PostgreSQL has. One that the
 * mirror holds ahead of the log comes from another log, as after a restore; it is replaced or removed too, at exactly
 * the position it was seen at. What other programs keep there is not looked at.
 *
 * Pages may be repeated without harm, so a leader that vanishes costs the next one a second's work.
 */
export function createRebuild(options: RebuildOptions): Chore {
  const { pool, id, mirror, log } = options
  let current: Rebuilding | undefined

  const release = async (): Promise<void> => {
    const marks = current?.marks
    current = undefined
    await marks?.return?.().catch(() => {})
  }

  /** Goes on where the last leader stored that it was. */
  const load = async (term: number): Promise<Rebuilding | undefined> => {
    const stored = await readRebuild(pool, id)
    if (stored === undefined || stored.finished_at !== null) return undefined
    const plan = await planRebuild(pool)
    const at = placeInPlan(plan, stored)
    if (stored.started_at === null) log.info({ follower: id, rebuild: stored.id }, 'rebuilding the mirror')
    return { term, stored, plan, at, fresh: true, marks: undefined, checkpointAt: 0 }
  }

  const checkpoint = async (now: Rebuilding): Promise<void> => {
    const finished = now.at >= now.plan.length
    const { phase, collection, after, written, removed, retried, refused } = now.stored
    const progress = { phase, collection, after, written, removed, retried, refused }
    const held = await storeRebuild(pool, id, now.term, { id: now.stored.id, progress, finished })
    now.checkpointAt = performance.now()
    if (held && !finished) return
    await release()
    if (!held) return
    log.info({ follower: id, rebuild: now.stored.id, ...progress }, 'the mirror is rebuilt')
    options.onFinished()
  }

  const step = async (term: number, size: number): Promise<boolean> => {
    const wanted = options.ordered()
    if (current !== undefined && (current.stored.id !== wanted || current.term !== term)) await release()
    if (wanted === undefined) return false
    current ??= await load(term)
    const now = current
    const task = now?.plan[now.at]
    if (now === undefined || task === undefined) return false
    const { stored } = now
    stored.phase = task.phase
    stored.collection = task.name
    const more = task.phase === 'write' ? await write(now, task, size) : await sweep(now, task, size)
    now.fresh = false
    if (!more) {
      now.at++
      now.fresh = true
      now.marks = undefined
      stored.after = ''
      stored.phase = now.plan[now.at]?.phase ?? stored.phase
      stored.collection = now.plan[now.at]?.name ?? null
    }
    if (!more || performance.now() - now.checkpointAt > CHECKPOINT_MS) await checkpoint(now)
    return true
  }

  const write = async ({ stored, fresh }: Rebuilding, task: RebuildTask, size: number): Promise<boolean> => {
    const { definition } = task
    if (fresh) await mirror.prepare(definition)
    const { name: collection, schema } = definition
    const selection = { collection, schema, filter: everything, text: undefined }
    const { position, documents } = await scanPage(pool, selection, stored.after, { limit: size })
    const [first, last] = [documents[0], documents.at(-1)]
    if (first === undefined || last === undefined) return false
    const range = { first: first.id, last: last.id }
    const over = ahead(await mirror.marksAhead(definition, range, position), position)
    const rejections = await mirror.apply(
      documents.map(({ id, version, text }) => {
        const change = { definition, id, seq: position, version, item: JSON.parse(text) as Item }
        return { ...change, ...over.get(id) }
      }),
    )
    await options.park(rejections)
    const refused = new Set(rejections.map(({ change }) => change.id))
    const taken = documents.filter((document) => !refused.has(document.id))
    const keys = taken.map((document) => ({ collection, id: document.id }))
    stored.retried += await unparkDocuments(pool, id, keys, position)
    stored.written += taken.length
    stored.refused += refused.size
    stored.after = last.id
    return true
  }

  const sweep = async (now: Rebuilding, task: RebuildTask, size: number): Promise<boolean> => {
    const { stored } = now
    now.marks ??= mirror.marks(task.definition, stored.after)[Symbol.asyncIterator]()
    const marks = await takeSome(now.marks, size)
    const ids = marks.map((mark) => mark.id)
    const { position, absent } = await readAbsent(pool, task.collections, ids)
    const { definition } = task
    const over = ahead(marks, position)
    await mirror.apply(
      absent.map((id) => ({ definition, id, seq: position, version: 0, item: null, ...over.get(id) })),
    )
    stored.removed += absent.length
    stored.after = marks.at(-1)?.id ?? stored.after
    if (marks.length > 0) return true
    await forgetGone(stored, task)
    return false
  }

  /** Parked documents that were deleted since: their deletion waits behind them, and is done here. */
  const forgetGone = async (stored: StoredRebuild, task: RebuildTask): Promise<void> => {
    const { position, gone } = await readParkedGone(pool, id, task.collections)
    const { definition } = task
    await mirror.apply(gone.map(({ id }) => ({ definition, id, seq: position, version: 0, item: null })))
    stored.retried += await unparkDocuments(pool, id, gone, position)
  }

  return { step, release }
}

/**
 * How to write over those documents that the mirror holds ahead of the log. Nothing behind `position` has been applied
 * when this is asked, because pages and changes take turns: another log has put them there.
 */
function ahead(marks: readonly Mark[], position: number): Map<string, { over: number }> {
  return new Map(marks.filter(({ seq }) => seq > position).map(({ id, seq }) => [id, { over: seq }]))
}

/** Up to `count` marks; fewer only at the end. One whose position another program has spoilt counts as older than all. */
async function takeSome(marks: AsyncIterator<Mark>, count: number): Promise<Mark[]> {
  const some: Mark[] = []
  while (some.length < count) {
    const { done, value } = await marks.next()
    if (done) break
    some.push({ id: value.id, seq: Number.isSafeInteger(value.seq) ? value.seq : -1 })
  }
  return some
}

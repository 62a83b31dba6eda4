import { type Pool, type Queryable, query } from '../db/pool.js'
import { transaction } from '../db/transaction.js'

/** A part of the log that can be dropped whole: the changes in (after, last]. */
export interface LogPartition {
  name: string
  /** 0 for the oldest of all. */
  after: number
  /** Position of the last change it can hold; null for the one at the end, which takes whatever comes. */
  last: number | null
  /** On the disk, indexes and large values included. */
  bytes: number
}

/** How long writers and readers may have to wait behind a statement that waits for the log's table itself. */
const LOCK_TIMEOUT_MS = 200

/** The parts of the log, oldest first, those that are prepared and empty included. */
export async function readPartitions(on: Queryable): Promise<LogPartition[]> {
  return query<LogPartition>(
    on,
    `SELECT name, coalesce(from_seq, 0) AS after, to_seq AS last,
       pg_total_relation_size(to_regclass(format('dualstore.%I', name))) AS bytes
     FROM dualstore.log_partitions()`,
  )
}

/** When the oldest or the newest change in (after, upTo] was made, epoch milliseconds; undefined when there is none. */
export async function timeOfChange(
  on: Queryable,
  which: 'oldest' | 'newest',
  { after, upTo }: { after: number; upTo: number },
): Promise<number | undefined> {
  const rows = await query<{ at: number }>(
    on,
    `SELECT at FROM dualstore.changes WHERE seq > $1 AND seq <= $2
     ORDER BY seq ${which === 'oldest' ? 'ASC' : 'DESC'} LIMIT 1`,
    [after, upTo],
  )
  return rows[0]?.at
}

/**
 * Runs work that changes the partitions. It has the log's table for itself, so it gives up soon when others hold it,
 * is tried again a few times, and fails then with lock_not_available: everybody else would queue behind it.
 */
export async function repartition<T>(pool: Pool, work: (tx: Queryable) => Promise<T>): Promise<T> {
  return transaction(pool, async (tx) => {
    await query(tx, `SELECT set_config('lock_timeout', $1, true)`, [`${LOCK_TIMEOUT_MS}ms`])
    return work(tx)
  })
}

/** Prepares partitions of so many changes behind the last bounded one; false when the open one holds something. */
export async function extendLog(tx: Queryable, size: number, count: number): Promise<boolean> {
  const rows = await query<{ done: boolean }>(tx, 'SELECT dualstore.extend_log($1, $2) AS done', [
    size,
    count,
  ])
  return rows[0]?.done ?? false
}

/** Ends the partition that is being written behind the newest change; writers wait while PostgreSQL looks through it. */
export async function cutLog(tx: Queryable): Promise<boolean> {
  const rows = await query<{ done: boolean }>(tx, 'SELECT dualstore.cut_log() AS done')
  return rows[0]?.done ?? false
}

/** Drops the oldest partition and moves the log's floor behind it; false when it is not the oldest (any more). */
export async function dropOldest(tx: Queryable, name: string): Promise<boolean> {
  const rows = await query<{ done: boolean }>(tx, 'SELECT dualstore.drop_log_partition($1) AS done', [name])
  return rows[0]?.done ?? false
}

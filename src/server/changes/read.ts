import { type Queryable, query } from '../db/pool.js'

/** One entry of the change log. */
export interface Change {
  seq: number
  collection: string
  id: string
  op: 'insert' | 'update' | 'delete'
  version: number
  /** The document after the change, or as it last was when it was deleted; JSON text. */
  text: string
  /** Epoch milliseconds. */
  at: number
}

/** Stored bytes, compressed as they are, of the documents in one read: large ones must not pile up in memory. */
const MAX_READ_BYTES = 4 * 1024 * 1024

/**
 * The changes behind a position, in log order; by I1 no lower one can appear afterwards. Fewer than `limit` when
 * their documents are large, but at least one when there is one.
 */
export async function readChanges(on: Queryable, after: number, limit: number): Promise<Change[]> {
  return query<Change>(
    on,
    `SELECT seq, collection, id, op, version, item::text AS text, at FROM (
       SELECT *, sum(pg_column_size(item)) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) - pg_column_size(item) AS before
       FROM (SELECT * FROM dualstore.changes WHERE seq > $1 ORDER BY seq LIMIT $2) c
     ) c WHERE before < $3 ORDER BY seq`,
    [after, limit, MAX_READ_BYTES],
    'read_changes',
  )
}

/** Keeps everybody from committing a change until the transaction ends. */
export async function lockLog(tx: Queryable): Promise<void> {
  await query(tx, 'SELECT dualstore.lock_log()')
}

export interface LogHead {
  epoch: string
  /** Position of the newest change; 0 when there is none. */
  position: number
}

export async function readHead(on: Queryable): Promise<LogHead> {
  const rows = await query<LogHead>(
    on,
    `SELECT l.epoch, coalesce((SELECT max(seq) FROM dualstore.changes), 0) AS position
     FROM dualstore.logs l WHERE l.log_id = 1`,
  )
  return rows[0] ?? { epoch: '', position: 0 }
}

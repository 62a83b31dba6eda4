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

/** A change as streams need it. */
export interface LoggedChange extends Change {
  /** With an update the document before it; null with the others, and with updates from before this was kept. */
  previousText: string | null
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

/** Where the log begins and ends. */
export interface LogHead {
  epoch: string
  /** Position of the newest change; 0 when there has been none. */
  position: number
  /** Changes up to this position have been dropped. */
  floor: number
}

/** A piece of the log, together with where the log began and ended at that moment. */
export interface LogPiece extends LogHead {
  changes: LoggedChange[]
}

/** Like readChanges, with the documents before and after, and the bounds of the log in the same snapshot. */
export async function readPiece(on: Queryable, after: number, limit: number): Promise<LogPiece> {
  const rows = await query<LogHead & LoggedChange>(
    on,
    `WITH l AS MATERIALIZED (
       SELECT epoch, floor, dualstore.log_head() AS position FROM dualstore.logs WHERE log_id = 1
     ) SELECT l.*, c.* FROM l LEFT JOIN LATERAL (
       SELECT seq, collection, id, op, version, item::text AS text, previous::text AS "previousText", at FROM (
         SELECT *, sum(size) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) - size AS before FROM (
           SELECT *, pg_column_size(item) + coalesce(pg_column_size(previous), 0) AS size
           FROM dualstore.changes WHERE seq > $1 ORDER BY seq LIMIT $2
         ) c
       ) c WHERE before < $3
     ) c ON true ORDER BY c.seq`,
    [after, limit, MAX_READ_BYTES],
    'read_piece',
  )
  const { epoch = '', floor = 0, position = 0 } = rows[0] ?? {}
  return { epoch, floor, position, changes: rows.filter(({ seq }) => seq !== null) }
}

export async function readHead(on: Queryable): Promise<LogHead> {
  const rows = await query<LogHead>(
    on,
    'SELECT epoch, floor, dualstore.log_head() AS position FROM dualstore.logs WHERE log_id = 1',
    [],
    'read_head',
  )
  return rows[0] ?? { epoch: '', position: 0, floor: 0 }
}

/** Keeps everybody from committing a change until the transaction ends. */
export async function lockLog(tx: Queryable): Promise<void> {
  await query(tx, 'SELECT dualstore.lock_log()')
}

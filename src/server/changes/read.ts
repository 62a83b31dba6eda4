import { type Queryable, query } from '../db/pool.js'
import { WITH_WHOLE_LOG } from '../db/whole-log.js'

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
  /** Who made it; null for what was written past the program. */
  author: string | null
}

/** Stored bytes, compressed as they are, of the documents in one read: large ones must not pile up in memory. */
const MAX_READ_BYTES = 4 * 1024 * 1024

/** Positions looked through in one read, so that not every partition of a long log is opened for a few changes. */
const READ_WITHIN = 100_000

/** Where the log begins and ends. */
export interface LogHead {
  epoch: string
  /** Position of the newest change; 0 when there has been none. */
  position: number
  /** Changes up to this position have been dropped. */
  floor: number
}

/** A piece of the log, together with where the log began and ended at that moment. */
export interface LogPiece<C extends Change = LoggedChange> extends LogHead {
  changes: C[]
}

const pieceSql = (columns: string, size: string) => `WITH l AS MATERIALIZED (
    SELECT epoch, floor, dualstore.log_head() AS position FROM dualstore.logs WHERE log_id = 1
  ) SELECT l.*, c.* FROM l LEFT JOIN LATERAL (
    SELECT seq, collection, id, op, version, item::text AS text, ${columns}at FROM (
      SELECT *, sum(size) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) - size AS before FROM (
        SELECT *, ${size} AS size FROM dualstore.changes WHERE seq > $1 AND seq <= $4 ORDER BY seq LIMIT $2
      ) c
    ) c WHERE before < $3
  ) c ON true ORDER BY c.seq`

const READ_CHANGES = pieceSql('', 'pg_column_size(item)')
const READ_PIECE = pieceSql(
  'previous::text AS "previousText", author, ',
  'pg_column_size(item) + coalesce(pg_column_size(previous), 0)',
)

/**
 * The changes behind a position, in log order, and the bounds of the log in the same snapshot; by I1 no lower change
 * can appear afterwards. Fewer than `limit` when their documents are large, but at least one when there is one.
 * What comes behind a position below `floor` is not all there.
 */
export function readChanges(on: Queryable, after: number, limit: number): Promise<LogPiece<Change>> {
  return readBehind<Change>(on, READ_CHANGES, 'read_changes', after, limit)
}

/** Like readChanges, with the documents before. */
export function readPiece(on: Queryable, after: number, limit: number): Promise<LogPiece> {
  return readBehind<LoggedChange>(on, READ_PIECE, 'read_piece', after, limit)
}

async function readBehind<C extends Change>(
  on: Queryable,
  sql: string,
  name: string,
  after: number,
  limit: number,
): Promise<LogPiece<C>> {
  const read = async (upTo: number): Promise<LogPiece<C>> => {
    const rows = await query<LogHead & C>(on, sql, [after, limit, MAX_READ_BYTES, upTo], name)
    const { epoch = '', floor = 0, position = 0 } = rows[0] ?? {}
    return { epoch, floor, position, changes: rows.filter(({ seq }) => seq !== null) }
  }
  const piece = await read(after + READ_WITHIN)
  // Behind a gap as large as that, such as the one that a restore leaves.
  return piece.changes.length === 0 && piece.position > after ? read(Number.MAX_SAFE_INTEGER) : piece
}

/** Which documents changed behind a position: one collection and id for each change, in log order. */
export interface Touched {
  collections: string[]
  ids: string[]
}

// As two arrays in one row: a row for each change costs the client several times as much.
const READ_TOUCHED = `WITH l AS MATERIALIZED (
    SELECT epoch, floor, dualstore.log_head() AS position FROM dualstore.logs WHERE log_id = 1
  ) SELECT l.*, c.* FROM l CROSS JOIN LATERAL (
    SELECT coalesce(json_agg(collection), '[]') AS collections, coalesce(json_agg(id), '[]') AS ids, max(seq) AS last
    FROM (
      SELECT seq, collection, id FROM dualstore.changes WHERE seq > $1 AND seq <= $3 ORDER BY seq LIMIT $2
    ) c
  ) c`

/**
 * Like readChanges, without the documents. `last` is the position up to which everything was read; it is `position`
 * when that was all.
 */
export async function readTouched(
  on: Queryable,
  after: number,
  limit: number,
): Promise<LogHead & Touched & { last: number }> {
  const read = async (upTo: number) => {
    const [row] = await query<LogHead & Touched & { last: number | null }>(
      on,
      READ_TOUCHED,
      [after, limit, upTo],
      'read_touched',
    )
    if (row === undefined) return { epoch: '', floor: 0, position: 0, collections: [], ids: [], last: 0 }
    const complete = row.ids.length < limit
    return { ...row, last: complete ? Math.min(upTo, row.position) : (row.last ?? after) }
  }
  const touched = await read(after + READ_WITHIN)
  // Behind a gap, as with readChanges.
  return touched.ids.length === 0 && touched.position > after ? read(Number.MAX_SAFE_INTEGER) : touched
}

export async function readHead(on: Queryable): Promise<LogHead> {
  const rows = await query<LogHead>(
    on,
    `SELECT epoch, floor, dualstore.log_head() AS position FROM dualstore.logs
     WHERE log_id = 1 AND ${WITH_WHOLE_LOG}`,
    [],
    'read_head',
  )
  return rows[0] ?? { epoch: '', position: 0, floor: 0 }
}

/** Where the log ends, and which server says so: one that was promoted or restored may have lost its end. */
export interface LogEnd extends LogHead {
  server: string
}

/**
 * Where the log ends now. Cheap where it has not moved since `known`: numbers are drawn before they are committed, so
 * that no change is behind the number drawn last.
 */
export async function readEnd(on: Queryable, known: number): Promise<LogEnd> {
  const rows = await query<LogEnd>(
    on,
    `SELECT l.epoch, l.floor, pg_postmaster_start_time()::text AS server,
       CASE WHEN s.last_value = $1 THEN s.last_value ELSE dualstore.log_head() END AS position
     FROM dualstore.logs l, dualstore.changes_seq s WHERE l.log_id = 1 AND ${WITH_WHOLE_LOG}`,
    [known],
    'read_end',
  )
  return rows[0] ?? { epoch: '', position: 0, floor: 0, server: '' }
}

/** Keeps everybody from committing a change until the transaction ends. */
export async function lockLog(tx: Queryable): Promise<void> {
  await query(tx, 'SELECT dualstore.lock_log()')
}

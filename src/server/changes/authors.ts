import { type Queryable, query } from '../db/pool.js'
import type { Change } from './read.js'

/** A change as the audit tells it: never the document. */
export interface AuthoredChange extends Omit<Change, 'text'> {
  /** A principal's id; null for what was written past the program, and before authors were kept. */
  author: string | null
  address: string | null
}

export interface AuthoredQuery {
  /** Only changes below this position; undefined: from the newest on. */
  before: number | undefined
  /** Only changes from this moment on, in epoch milliseconds. */
  since: number | undefined
  author: string | undefined
  collection: string | undefined
  id: string | undefined
  limit: number
}

export interface AuthoredPage {
  changes: AuthoredChange[]
  /** Where to go on; undefined when nothing further back can match. */
  before: number | undefined
}

/** Changes looked at for one page: the log has no index but its order, and a rare author must not cost a minute. */
const LOOK_AT_MOST = 50_000

/** Matching changes, the newest first. A page may hold fewer than there are, or none, and still go on. */
export async function readAuthors(on: Queryable, asked: AuthoredQuery): Promise<AuthoredPage> {
  const { before, since, author, collection, id, limit } = asked
  const rows = await query<AuthoredChange & { looked: number; lowest: number | null; oldest: number | null }>(
    on,
    `WITH looked AS MATERIALIZED (
       SELECT seq, collection, id, op, version, at, author, address FROM dualstore.changes
       WHERE $1::bigint IS NULL OR seq < $1 ORDER BY seq DESC LIMIT ${LOOK_AT_MOST}
     ), bounds AS (
       SELECT count(*) AS looked, min(seq) AS lowest, min(at) AS oldest FROM looked
     ) SELECT b.*, c.* FROM bounds b LEFT JOIN LATERAL (
       SELECT * FROM looked
       WHERE ($2::bigint IS NULL OR at >= $2) AND ($3::text IS NULL OR author = $3)
         AND ($4::text IS NULL OR collection = $4) AND ($5::text IS NULL OR id = $5)
       ORDER BY seq DESC LIMIT $6
     ) c ON true ORDER BY c.seq DESC`,
    [before ?? null, since ?? null, author ?? null, collection ?? null, id ?? null, limit],
  )
  const [first] = rows
  const changes = rows
    .filter(({ seq }) => seq !== null)
    .map(({ looked, lowest, oldest, ...change }) => change)
  if (changes.length === limit) return { changes, before: changes.at(-1)?.seq }
  const ended =
    first === undefined || first.looked < LOOK_AT_MOST || (since !== undefined && (first.oldest ?? 0) < since)
  return { changes, before: ended ? undefined : (first.lowest ?? undefined) }
}

import { type Queryable, query } from '../db/pool.js'

/** Which of these ids no document of the collections has, at a position of the log. */
export async function readAbsent(
  on: Queryable,
  collections: readonly string[],
  ids: readonly string[],
): Promise<{ position: number; absent: string[] }> {
  const rows = await query<{ position: number; absent: string[] }>(
    on,
    `SELECT dualstore.log_head() AS position, ARRAY(
       SELECT i.id FROM unnest($2::text[]) i(id) WHERE NOT EXISTS (
         SELECT FROM dualstore.documents d WHERE d.collection = ANY ($1) AND d.id = i.id)) AS absent`,
    [collections, ids],
  )
  return rows[0] ?? { position: 0, absent: [] }
}

/** Parked documents of the collections that PostgreSQL no longer has, at a position of the log. */
export async function readParkedGone(
  on: Queryable,
  follower: string,
  collections: readonly string[],
): Promise<{ position: number; gone: { collection: string; id: string }[] }> {
  const rows = await query<{ position: number; collection: string; id: string }>(
    on,
    `WITH h AS MATERIALIZED (SELECT dualstore.log_head() AS position)
     SELECT h.position, p.collection, p.id FROM h LEFT JOIN dualstore.parked p
       ON p.follower = $1 AND p.collection = ANY ($2) AND NOT EXISTS (
         SELECT FROM dualstore.documents d WHERE d.collection = p.collection AND d.id = p.id)`,
    [follower, collections],
  )
  return { position: rows[0]?.position ?? 0, gone: rows.filter(({ id }) => id !== null) }
}

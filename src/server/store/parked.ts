import { type Queryable, query } from '../db/pool.js'

/** A document that a follower could not apply (I6). */
export interface ParkedDocument {
  collection: string
  id: string
  /** Position of the change that could not be applied. */
  seq: number
  reason: string
}

/** Parks documents; one that is parked already keeps its first position and gets the newest reason. */
export async function parkDocuments(
  on: Queryable,
  follower: string,
  documents: readonly ParkedDocument[],
): Promise<void> {
  await query(
    on,
    `INSERT INTO dualstore.parked AS p (follower, collection, id, seq, reason)
     SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[])
     ON CONFLICT (follower, collection, id) DO UPDATE SET reason = EXCLUDED.reason, attempts = p.attempts + 1`,
    [
      follower,
      documents.map((document) => document.collection),
      documents.map((document) => document.id),
      documents.map((document) => document.seq),
      documents.map((document) => document.reason),
    ],
  )
}

/** Which of these documents are parked. */
export async function parkedAmong(
  on: Queryable,
  follower: string,
  documents: readonly { collection: string; id: string }[],
): Promise<ParkedDocument[]> {
  return query<ParkedDocument>(
    on,
    `SELECT collection, id, seq, reason FROM dualstore.parked
     WHERE follower = $1 AND (collection, id) IN (SELECT * FROM unnest($2::text[], $3::text[]))`,
    [follower, documents.map((document) => document.collection), documents.map((document) => document.id)],
  )
}

/** Number of documents a follower has parked. */
export async function countParked(on: Queryable, follower: string): Promise<number> {
  const rows = await query<{ count: number }>(
    on,
    'SELECT count(*) AS count FROM dualstore.parked WHERE follower = $1',
    [follower],
  )
  return rows[0]?.count ?? 0
}

/** Forgets that these documents were parked at or before a position, and tells how many were. */
export async function unparkDocuments(
  on: Queryable,
  follower: string,
  documents: readonly { collection: string; id: string }[],
  upTo: number,
): Promise<number> {
  const rows = await query(
    on,
    `DELETE FROM dualstore.parked WHERE follower = $1 AND seq <= $4
       AND (collection, id) IN (SELECT * FROM unnest($2::text[], $3::text[])) RETURNING id`,
    [
      follower,
      documents.map((document) => document.collection),
      documents.map((document) => document.id),
      upTo,
    ],
  )
  return rows.length
}

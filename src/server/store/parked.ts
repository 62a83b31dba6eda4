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
     ON CONFLICT (follower, collection, id) DO UPDATE
       SET reason = EXCLUDED.reason, attempts = p.attempts + 1, retrying = false`,
    [
      follower,
      documents.map((document) => document.collection),
      documents.map((document) => document.id),
      documents.map((document) => document.seq),
      documents.map((document) => document.reason),
    ],
  )
}

/** Which of these documents are parked, and not being retried. */
export async function parkedAmong(
  on: Queryable,
  follower: string,
  documents: readonly { collection: string; id: string }[],
): Promise<ParkedDocument[]> {
  return query<ParkedDocument>(
    on,
    `SELECT collection, id, seq, reason FROM dualstore.parked
     WHERE follower = $1 AND NOT retrying AND (collection, id) IN (SELECT * FROM unnest($2::text[], $3::text[]))`,
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

/** A parked document with its history. */
export interface ParkedRecord extends ParkedDocument {
  /** How often it was refused. */
  attempts: number
  /** A retry is under way, or was interrupted. */
  retrying: boolean
  parked_at: Date
}

const RECORD = 'collection, id, seq, reason, attempts, retrying, parked_at'

/** Parked documents by collection and id, behind a place. */
export async function listParked(
  on: Queryable,
  follower: string,
  page: { collection: string | undefined; after: { collection: string; id: string }; limit: number },
): Promise<ParkedRecord[]> {
  return query<ParkedRecord>(
    on,
    `SELECT ${RECORD} FROM dualstore.parked
     WHERE follower = $1 AND ($2::text IS NULL OR collection = $2) AND (collection, id) > ($3, $4)
     ORDER BY collection, id LIMIT $5`,
    [follower, page.collection ?? null, page.after.collection, page.after.id, page.limit],
  )
}

export async function readParked(
  on: Queryable,
  follower: string,
  { collection, id }: { collection: string; id: string },
): Promise<ParkedRecord | undefined> {
  const rows = await query<ParkedRecord>(
    on,
    `SELECT ${RECORD} FROM dualstore.parked WHERE follower = $1 AND collection = $2 AND id = $3`,
    [follower, collection, id],
  )
  return rows[0]
}

/** Lets later changes of a parked document flow again while it is retried; false when it is not parked. */
export async function beginRetry(
  on: Queryable,
  follower: string,
  { collection, id }: { collection: string; id: string },
): Promise<boolean> {
  const rows = await query(
    on,
    `UPDATE dualstore.parked SET retrying = true WHERE follower = $1 AND collection = $2 AND id = $3 RETURNING id`,
    [follower, collection, id],
  )
  return rows.length > 0
}

/** Takes a document out of the parked ones: after its retry, unless a later change has parked it again, or whatever. */
export async function unpark(
  on: Queryable,
  follower: string,
  { collection, id }: { collection: string; id: string },
  when: 'retried' | 'always',
): Promise<boolean> {
  const rows = await query(
    on,
    `DELETE FROM dualstore.parked
     WHERE follower = $1 AND collection = $2 AND id = $3 AND (retrying OR $4 = 'always') RETURNING id`,
    [follower, collection, id, when],
  )
  return rows.length > 0
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

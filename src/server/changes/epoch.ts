import { type Queryable, query } from '../db/pool.js'
import { readHead } from './read.js'

/** Positions for each millisecond of the clock: more than any log can write in one. */
const POSITIONS_PER_MS = 100

/** A log that begins anew. */
export interface NewEpoch {
  epoch: string
  /** Every change that is written from now on has a position above this. */
  position: number
}

/**
 * Gives the log another epoch, so that positions given out before mean nothing any more, and moves its numbers to where
 * no log of this database can have been: to the clock, in hundredths of a millisecond. A mirror that has seen more
 * than the database now holds would otherwise take new changes for old ones. The caller holds the log's lock.
 * Followers that had seen everything have still seen everything.
 * @param beyond A position that the new ones must be above too.
 */
export async function beginEpoch(tx: Queryable, beyond: number): Promise<NewEpoch> {
  const { position: head } = await readHead(tx)
  const rows = await query<NewEpoch>(
    tx,
    `WITH jump AS (
       SELECT setval('dualstore.changes_seq', greatest(last_value, $1, dualstore.now_ms() * $2)) AS position
       FROM dualstore.changes_seq
     )
     UPDATE dualstore.logs SET epoch = substr(replace(gen_random_uuid()::text, '-', ''), 1, 8)
     FROM jump WHERE log_id = 1 RETURNING epoch, jump.position`,
    [beyond, POSITIONS_PER_MS],
  )
  const begun = rows[0] ?? { epoch: '', position: 0 }
  await query(tx, 'UPDATE dualstore.followers SET position = $2 WHERE position = $1', [head, begun.position])
  return begun
}

/** Tells followers to delete documents that PostgreSQL does not hold. The caller holds the log's lock. */
export async function appendDeletes(
  tx: Queryable,
  collection: string,
  documents: readonly { id: string; version: number }[],
): Promise<void> {
  await query(
    tx,
    `INSERT INTO dualstore.changes (seq, collection, id, op, version, item, at)
     SELECT nextval('dualstore.changes_seq'), $1, d.id, 'delete', d.version, jsonb_build_object('id', d.id),
       dualstore.now_ms()
     FROM unnest($2::text[], $3::bigint[]) AS d(id, version)`,
    [collection, documents.map(({ id }) => id), documents.map(({ version }) => version)],
  )
}

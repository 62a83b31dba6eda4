import { type Queryable, query } from '../db/pool.js'

/** What PostgreSQL holds on its disk, in bytes. */
export interface Sizes {
  /** The whole database: documents, log, indexes. */
  database: number
  /** The log, indexes and large values included. */
  log: number
  /** Changes up to this position are gone from the log. */
  floor: number
}

/** Looks at the files of every table, so that it is not for each request. */
export async function readSizes(on: Queryable): Promise<Sizes | undefined> {
  const rows = await query<Sizes>(
    on,
    `SELECT pg_database_size(current_database()) AS database, floor,
       (SELECT coalesce(sum(pg_total_relation_size(relid)), 0)
        FROM pg_partition_tree('dualstore.changes'))::bigint AS log
     FROM dualstore.logs WHERE log_id = 1`,
  )
  return rows[0]
}

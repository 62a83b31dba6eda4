import { type Queryable, query } from '../db/pool.js'

/** How far a rebuild of a mirror has come; what is in here is done. Times are ISO 8601 by PostgreSQL's clock. */
export interface StoredRebuild {
  id: string
  requested_by: string
  requested_at: string
  /** The log's end when it was asked for. */
  from: number
  /** write: every document goes to the mirror. sweep: what PostgreSQL no longer has goes from it. */
  phase: 'write' | 'sweep'
  /** The collection at hand, or with sweep its name in the mirror; null: the first one is next. */
  collection: string | null
  /** The last id of it that is done. */
  after: string
  written: number
  removed: number
  /** Parked documents that the mirror has now. */
  retried: number
  /** Documents that the mirror cannot take. */
  refused: number
  /** About how many documents there are to write. */
  total: number
  started_at: string | null
  finished_at: string | null
}

/** What a leader stores of a rebuild as it goes on. */
export type RebuildProgress = Pick<
  StoredRebuild,
  'phase' | 'collection' | 'after' | 'written' | 'removed' | 'retried' | 'refused'
>

const ISO = `to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`

/**
 * Orders a rebuild and lets the follower run. One whose position is of no use, because it is lost or outside the log,
 * goes on from the log's end: what it lacks comes with the documents. False when a rebuild is under way already and
 * `restart` does not say to begin again.
 */
export async function requestRebuild(
  on: Queryable,
  id: string,
  { by, restart }: { by: string; restart: boolean },
): Promise<boolean> {
  const rows = await query(
    on,
    `WITH l AS MATERIALIZED (SELECT floor, dualstore.log_head() AS head FROM dualstore.logs WHERE log_id = 1)
     UPDATE dualstore.followers f SET
       position = CASE WHEN state = 'lost' OR position < l.floor OR position > l.head THEN l.head ELSE position END,
       term = term + (state = 'lost' OR position < l.floor OR position > l.head)::int,
       state = 'running', state_reason = NULL, state_by = $2,
       state_since = CASE state WHEN 'running' THEN state_since ELSE now() END,
       rebuild = jsonb_build_object('id', gen_random_uuid(), 'requested_by', $2::text, 'requested_at', ${ISO},
         'from', l.head, 'phase', 'write', 'collection', NULL, 'after', '', 'written', 0, 'removed', 0, 'retried', 0,
         'refused', 0, 'started_at', NULL, 'finished_at', NULL, 'total', (
           SELECT coalesce(sum(greatest(p.reltuples, 0)), 0)::bigint FROM dualstore.collections c
           JOIN pg_class p ON p.oid = to_regclass(format('dualstore.%I', 'documents_' || c.name))))
     FROM l WHERE f.id = $1
       AND ($3 OR f.state = 'lost' OR f.rebuild IS NULL OR f.rebuild ->> 'finished_at' IS NOT NULL)
     RETURNING f.id`,
    [id, by, restart],
  )
  return rows.length > 0
}

export async function readRebuild(on: Queryable, id: string): Promise<StoredRebuild | undefined> {
  const rows = await query<{ rebuild: StoredRebuild | null }>(
    on,
    'SELECT rebuild FROM dualstore.followers WHERE id = $1',
    [id],
  )
  return rows[0]?.rebuild ?? undefined
}

/** Stores how far the rebuild of this id has come; false when another term or another rebuild has begun. */
export async function storeRebuild(
  on: Queryable,
  follower: string,
  term: number,
  { id, progress, finished }: { id: string; progress: RebuildProgress; finished: boolean },
): Promise<boolean> {
  const rows = await query(
    on,
    `UPDATE dualstore.followers SET rebuild = rebuild || $4 || jsonb_build_object(
       'started_at', coalesce(rebuild ->> 'started_at', ${ISO}), 'finished_at', CASE WHEN $5 THEN ${ISO} END)
     WHERE id = $1 AND term = $2 AND rebuild ->> 'id' = $3 RETURNING id`,
    [follower, term, id, JSON.stringify(progress), finished],
  )
  return rows.length > 0
}

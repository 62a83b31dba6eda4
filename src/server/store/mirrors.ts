import { type Queryable, query } from '../db/pool.js'
import type { FollowerState } from './positions.js'
import type { StoredRebuild } from './rebuilds.js'

/** Everything PostgreSQL knows of a mirror, at one moment and by its own clock. */
export interface StoredMirror {
  epoch: string
  head: number
  floor: number
  position: number
  state: FollowerState
  state_reason: string | null
  state_since: Date
  state_by: string | null
  kind: string | null
  leader: string | null
  host: string | null
  term: number
  lease_until: Date
  /** True while a leader's lease runs. */
  led: boolean
  /** Why its leader does not get on now. */
  last_error: string | null
  latest_error: string | null
  latest_error_at: Date | null
  /** When its leader last told how it gets on, and how long ago that is. */
  reported_at: Date | null
  report_age_ms: number | null
  applied_per_s: number | null
  written_per_s: number | null
  /** Milliseconds since the oldest change that it lacks was committed; null when it lacks none. */
  lag_ms: number | null
  parked: number
  rebuild: StoredRebuild | null
}

/** A mirror as it is stored; undefined when nothing has ever mirrored into it. */
export async function readMirror(on: Queryable, id: string): Promise<StoredMirror | undefined> {
  const rows = await query<StoredMirror>(
    on,
    `WITH l AS MATERIALIZED (
       SELECT epoch, floor, dualstore.log_head() AS head FROM dualstore.logs WHERE log_id = 1
     )
     SELECT l.epoch, l.head, l.floor, f.position, f.state, f.state_reason, f.state_since, f.state_by, f.kind, f.leader,
       f.host, f.term, f.lease_until, f.leader IS NOT NULL AND f.lease_until >= clock_timestamp() AS led,
       f.last_error, f.latest_error, f.latest_error_at, f.reported_at,
       (extract(epoch FROM clock_timestamp() - f.reported_at) * 1000)::bigint AS report_age_ms,
       f.applied_per_s, f.written_per_s, f.rebuild,
       (SELECT greatest(0, dualstore.now_ms() - c.at) FROM dualstore.changes c WHERE c.seq > f.position
        ORDER BY c.seq LIMIT 1) AS lag_ms,
       (SELECT count(*) FROM dualstore.parked p WHERE p.follower = f.id) AS parked
     FROM dualstore.followers f CROSS JOIN l WHERE f.id = $1`,
    [id],
  )
  return rows[0]
}

/** What a leader tells, at most once a second. */
export interface Report {
  host: string
  kind: string
  /** Changes a second; null when it cannot be told yet. */
  appliedPerS: number | null
  writtenPerS: number | null
}

/** Where the log and the mirror stood when a report was stored. */
export interface Sample {
  position: number
  head: number
  /** Epoch milliseconds by PostgreSQL's clock. */
  at: number
}

/** Stores what this instance tells when it leads, and answers where things stand; undefined when another one leads. */
export async function storeReport(
  on: Queryable,
  id: string,
  leader: string,
  report: Report,
): Promise<Sample | undefined> {
  const rows = await query<Sample>(
    on,
    `UPDATE dualstore.followers
     SET reported_at = clock_timestamp(), host = $3, kind = $4, applied_per_s = $5, written_per_s = $6
     WHERE id = $1 AND leader = $2 AND lease_until >= clock_timestamp()
     RETURNING position, dualstore.log_head() AS head, dualstore.now_ms() AS at`,
    [id, leader, report.host, report.kind, report.appliedPerS, report.writtenPerS],
    'store_report',
  )
  return rows[0]
}

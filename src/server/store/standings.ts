import { type Queryable, query } from '../db/pool.js'
import { PAST_EVERYTHING } from './positions.js'

/** How a follower of the log stands, in one reading of one moment. */
export interface Standing {
  id: string
  position: number
  /** The end of the log. */
  head: number
  /** Age of the oldest change that it has not applied, by PostgreSQL's clock alone; 0 when there is none. */
  behind_ms: number
  /** True while a leader's lease runs. */
  led: boolean
  leader: string | null
  last_error: string | null
  /** Documents it could not apply. */
  parked: number
}

/** Every follower; leases of what follows nothing are left out. */
export async function readStandings(on: Queryable): Promise<Standing[]> {
  return query<Standing>(
    on,
    `SELECT f.id, f.position, h.head, f.leader, f.last_error,
       f.leader IS NOT NULL AND f.lease_until >= clock_timestamp() AS led,
       coalesce(greatest(0, dualstore.now_ms() -
         (SELECT at FROM dualstore.changes WHERE seq > f.position ORDER BY seq LIMIT 1)), 0) AS behind_ms,
       (SELECT count(*) FROM dualstore.parked p WHERE p.follower = f.id) AS parked
     FROM dualstore.followers f, (SELECT dualstore.log_head() AS head) h
     WHERE f.position < $1 ORDER BY f.id`,
    [PAST_EVERYTHING],
    'read_standings',
  )
}

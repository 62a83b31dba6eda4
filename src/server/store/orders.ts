import { type Queryable, query } from '../db/pool.js'
import type { FollowerState } from './positions.js'

/** What is ordered of a follower. */
export interface StoredOrders {
  state: FollowerState
  state_reason: string | null
  /** The rebuild to do; null when there is none, or it is done. */
  rebuild: string | null
}

export async function readOrders(on: Queryable, id: string): Promise<StoredOrders | undefined> {
  const rows = await query<StoredOrders>(
    on,
    `SELECT state, state_reason, CASE WHEN rebuild ->> 'finished_at' IS NULL THEN rebuild ->> 'id' END AS rebuild
     FROM dualstore.followers WHERE id = $1`,
    [id],
    'read_orders',
  )
  return rows[0]
}

/** Who orders, and why. */
export interface Order {
  by: string
  reason: string | null
}

/** Stops a follower, unless it is lost; false in that case. One that is paused keeps since when. */
export async function pauseFollower(on: Queryable, id: string, { by, reason }: Order): Promise<boolean> {
  const rows = await query(
    on,
    `UPDATE dualstore.followers SET state = 'paused', state_reason = $3, state_by = $2,
       state_since = CASE state WHEN 'paused' THEN state_since ELSE now() END
     WHERE id = $1 AND state <> 'lost' RETURNING id`,
    [id, by, reason],
  )
  return rows.length > 0
}

/** Lets a follower go on, unless it is lost; false in that case. */
export async function resumeFollower(on: Queryable, id: string, by: string): Promise<boolean> {
  const rows = await query(
    on,
    `UPDATE dualstore.followers SET state = 'running', state_reason = NULL, state_by = $2,
       state_since = CASE state WHEN 'running' THEN state_since ELSE now() END
     WHERE id = $1 AND state <> 'lost' RETURNING id`,
    [id, by],
  )
  return rows.length > 0
}

/** True when no leader can be at work: there is none, or its lease has run out. */
export async function isAtRest(on: Queryable, id: string): Promise<boolean> {
  const rows = await query(
    on,
    `SELECT FROM dualstore.followers WHERE id = $1 AND (leader IS NULL OR lease_until < clock_timestamp())`,
    [id],
  )
  return rows.length > 0
}

/**
 * Sets the position of a paused follower that is at rest and still stands at `from`; false when it is not. The next
 * term begins, so that a leader that was only stalled finds out.
 */
export async function movePosition(on: Queryable, id: string, from: number, to: number): Promise<boolean> {
  const rows = await query(
    on,
    `UPDATE dualstore.followers SET position = $3, term = term + 1, updated_at = now()
     WHERE id = $1 AND position = $2 AND state = 'paused' AND (leader IS NULL OR lease_until < clock_timestamp())
     RETURNING id`,
    [id, from, to],
  )
  return rows.length > 0
}

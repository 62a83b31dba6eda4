import { type Queryable, query } from '../db/pool.js'

/** A follower of the log as it is stored. */
export interface StoredFollower {
  id: string
  position: number
  leader: string | null
  /** True while a leader's lease runs. */
  led: boolean
  term: number
  last_error: string | null
  state: FollowerState
  /** Why it is not running; null while it is. */
  state_reason: string | null
}

/**
 * running: the log is kept for it. paused: an operator stopped it, and the log goes on without it. lost: changes that it
 * had not applied are gone; it stops and must be built anew.
 */
export type FollowerState = 'running' | 'paused' | 'lost'

/** The answer to asking for the lease. */
export interface Lease {
  /** True when the asker leads now. */
  held: boolean
  /** True when the asker took over from another leader that did not release its lease. */
  takenOver: boolean
  position: number
  term: number
  /** Why the follower did not get on when it last tried; null when it did. */
  lastError: string | null
  /** Nobody leads what is not running. */
  state: FollowerState
  stateReason: string | null
}

/** Makes sure that a follower exists; a new one starts at the beginning of the log. */
export async function ensureFollower(on: Queryable, id: string): Promise<void> {
  await query(on, 'INSERT INTO dualstore.followers (id) VALUES ($1) ON CONFLICT DO NOTHING', [id])
}

/** A position past every change: of what has a lease and follows nothing, and so must never hold the log back. */
export const PAST_EVERYTHING = Number.MAX_SAFE_INTEGER

/** Makes sure that there is a lease by this name, for work that one instance at a time does and that reads no log. */
export async function ensureLease(on: Queryable, id: string): Promise<void> {
  await query(on, 'INSERT INTO dualstore.followers (id, position) VALUES ($1, $2) ON CONFLICT DO NOTHING', [
    id,
    PAST_EVERYTHING,
  ])
}

/**
 * Takes or renews the lease of a follower for `ttlMs`, when it runs and the lease is free, has run out, or is
 * this leader's already. The term grows with every change of leader and fences the one before (I5). The clock is PostgreSQL's alone.
 */
export async function takeLease(on: Queryable, id: string, leader: string, ttlMs: number): Promise<Lease> {
  const rows = await query<{
    held: boolean
    taken_over: boolean
    position: number
    term: number
    last_error: string | null
    state: FollowerState
    state_reason: string | null
  }>(
    on,
    `WITH before AS (
       SELECT * FROM dualstore.followers WHERE id = $1 FOR UPDATE
     ), taken AS (
       UPDATE dualstore.followers f SET
         leader = $2,
         lease_until = clock_timestamp() + $3 * interval '1 millisecond',
         term = f.term + (f.leader IS DISTINCT FROM $2)::int
       FROM before b
       WHERE f.id = b.id AND b.state = 'running' AND (b.leader IS NOT DISTINCT FROM $2 OR b.lease_until < clock_timestamp())
       RETURNING f.term
     )
     SELECT t.term IS NOT NULL AS held, t.term IS NOT NULL AND b.leader IS NOT NULL AND b.leader <> $2 AS taken_over,
       b.position, coalesce(t.term, b.term) AS term, b.last_error,
       b.state, b.state_reason
     FROM before b LEFT JOIN taken t ON true`,
    [id, leader, ttlMs],
  )
  const row = rows[0]
  return {
    held: row?.held ?? false,
    takenOver: row?.taken_over ?? false,
    position: row?.position ?? 0,
    term: row?.term ?? 0,
    lastError: row?.last_error ?? null,
    state: row?.state ?? 'running',
    stateReason: row?.state_reason ?? null,
  }
}

/** Prolongs the lease of the leader of this term; false when another term has begun. */
export async function renewLease(on: Queryable, id: string, term: number, ttlMs: number): Promise<boolean> {
  const rows = await query(
    on,
    `UPDATE dualstore.followers SET lease_until = clock_timestamp() + $3 * interval '1 millisecond'
     WHERE id = $1 AND term = $2 RETURNING id`,
    [id, term, ttlMs],
  )
  return rows.length > 0
}

/** Gives the lease back, so that another instance can lead at once. */
export async function releaseLease(on: Queryable, id: string, leader: string): Promise<void> {
  await query(
    on,
    `UPDATE dualstore.followers SET leader = NULL, lease_until = '-infinity' WHERE id = $1 AND leader = $2`,
    [id, leader],
  )
}

/** Stores how far a follower has got, unless another leader has taken over since `term`; false in that case. */
export async function storePosition(
  on: Queryable,
  id: string,
  position: number,
  term: number,
): Promise<boolean> {
  const rows = await query(
    on,
    `UPDATE dualstore.followers SET position = greatest(position, $2), last_error = NULL, updated_at = now()
     WHERE id = $1 AND term = $3 RETURNING id`,
    [id, position, term],
    'store_position',
  )
  return rows.length > 0
}

/**
 * Sets a follower back to `position` when `term` is over, and begins another term, so that whoever leads now reads
 * the stored position again; returns whether it did.
 */
export async function rewindPosition(
  on: Queryable,
  id: string,
  position: number,
  term: number,
): Promise<boolean> {
  const rows = await query(
    on,
    `UPDATE dualstore.followers SET position = least(position, $2), term = term + 1, updated_at = now()
     WHERE id = $1 AND term <> $3 RETURNING id`,
    [id, position, term],
  )
  return rows.length > 0
}

/** Notes why a follower does not get on; only its leader knows. */
export async function storeFollowerError(
  on: Queryable,
  id: string,
  leader: string,
  message: string,
): Promise<void> {
  await query(
    on,
    `UPDATE dualstore.followers
     SET last_error = $3, latest_error = $3, latest_error_at = clock_timestamp(), updated_at = now()
     WHERE id = $1 AND leader = $2`,
    [id, leader, message],
  )
}

export async function readFollowers(on: Queryable): Promise<StoredFollower[]> {
  return query<StoredFollower>(
    on,
    `SELECT id, position, leader, leader IS NOT NULL AND lease_until >= clock_timestamp() AS led, term, last_error,
       state, state_reason
     FROM dualstore.followers ORDER BY id`,
  )
}

/** A follower whose place in the log is about to go, or has gone. */
export interface Behind {
  id: string
  position: number
  state: FollowerState
}

/** The followers, lost ones excepted, that have not got to a position; they cannot move until the transaction ends. */
export async function followersBehind(tx: Queryable, position: number): Promise<Behind[]> {
  return query<Behind>(
    tx,
    `SELECT id, position, state FROM dualstore.followers WHERE state <> 'lost' AND position < $1 ORDER BY id FOR UPDATE`,
    [position],
  )
}

/** Marks a follower as lost, and begins another term, so that whoever leads it notices; false when it was lost already. */
export async function loseFollower(on: Queryable, id: string, reason: string): Promise<boolean> {
  const rows = await query(
    on,
    `UPDATE dualstore.followers SET state = 'lost', state_reason = $2, state_since = now(), term = term + 1,
       leader = NULL, lease_until = '-infinity'
     WHERE id = $1 AND state <> 'lost' RETURNING id`,
    [id, reason],
  )
  return rows.length > 0
}

/** Keeps leases and positions as they are until the transaction ends: nobody begins to lead meanwhile. */
export async function lockFollowers(tx: Queryable): Promise<void> {
  await query(tx, 'LOCK TABLE dualstore.followers IN SHARE ROW EXCLUSIVE MODE')
}

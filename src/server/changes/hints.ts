import { type Queryable, query } from '../db/pool.js'

/** Channel on which instances tell each other that the log has grown. The log is the truth, this is a hint. */
export const CHANGES_CHANNEL = 'dualstore_changes'
/** Channel on which instances tell each other that a collection was made, changed or dropped. */
export const COLLECTIONS_CHANNEL = 'dualstore_collections'
/** Channel on which instances tell each other that something is ordered of a mirror: to pause, to be rebuilt. */
export const MIRRORS_CHANNEL = 'dualstore_mirrors'
/** Channel on which PostgreSQL itself tells that a key was made, changed or removed (migration 0004). */
export const KEYS_CHANNEL = 'dualstore_keys'
/** Channel on which instances tell each other that there is a job to run. */
export const JOBS_CHANNEL = 'dualstore_jobs'

/** How long wishes to notify are gathered: NOTIFY takes a lock over the whole cluster when it commits. */
const DEBOUNCE_MS = 25

/**
 * Wakes whoever follows the log: those in this process at once, other instances by a debounced NOTIFY outside any
 * write transaction. Losing a hint costs one polling interval and nothing else.
 */
export interface Hints {
  /** Says that the log, or with COLLECTIONS_CHANNEL a collection, has changed. Never fails. */
  tell(channel: string): void
  /** Calls back for each hint, from this process or another; returns the way to stop that. */
  on(channel: string, listener: () => void): () => void
  /** Takes a hint that came from another instance. */
  received(channel: string): void
  /** Sends what is gathered, so that the last write of a short-lived process is heard of too. */
  stop(): Promise<void>
}

export function createHints(on: Queryable): Hints {
  const listeners = new Map<string, Set<() => void>>()
  const pending = new Map<string, NodeJS.Timeout>()
  const wake = (channel: string) => {
    for (const listener of listeners.get(channel) ?? []) listener()
  }
  const notify = async (channel: string): Promise<void> => {
    clearTimeout(pending.get(channel))
    pending.delete(channel)
    await query(on, `SELECT pg_notify($1, '')`, [channel]).catch(() => {})
  }
  return {
    tell(channel) {
      wake(channel)
      if (pending.has(channel)) return
      const timer = setTimeout(() => void notify(channel), DEBOUNCE_MS)
      pending.set(channel, timer)
    },
    on(channel, listener) {
      const set = listeners.get(channel) ?? new Set()
      listeners.set(channel, set.add(listener))
      return () => set.delete(listener)
    },
    received: wake,
    async stop() {
      listeners.clear()
      await Promise.all([...pending.keys()].map(notify))
    },
  }
}

import { LRUCache } from 'lru-cache'
import type { Pool } from '../db/pool.js'
import { sharedReading } from '../db/shared-reading.js'
import { type KeyRow, readKeyRows, readKeysVersion } from '../store/keys.js'
import type { Use } from './authenticator.js'
import { type KnownKey, knownKey } from './known-key.js'

/**
 * The keys that were proven to this instance. Nothing in it is used unless PostgreSQL has confirmed within the last
 * second that no key has changed, so a key that is revoked anywhere is refused here within a second. Only while
 * PostgreSQL is away may a known key go on reading, for a minute.
 */
export interface KeyCache {
  /** A key as it is remembered; undefined when it is not, or when that is older than the last change of keys. */
  find(id: string): KnownKey | undefined
  /** Asks PostgreSQL, whatever is remembered. @throws STORE_UNAVAILABLE */
  read(id: string): Promise<KnownKey>
  /** Keeps what was read, once its secret was proven. */
  remember(key: KnownKey): void
  /** Resolves when what is remembered may be used for this. @throws STORE_UNAVAILABLE */
  confirm(use: Use): Promise<void>
  /** Looks now whether keys have changed. @throws STORE_UNAVAILABLE */
  check(): Promise<void>
  /** Calls back whenever this instance has learned that keys have changed; returns the way to stop that. */
  onChange(listener: () => void): () => void
  /** Starts looking in the background; the returned function stops it. */
  watch(pollMs: number): () => void
}

export interface KeyCacheOptions {
  pool: Pool
  /** Most keys that are remembered. */
  max?: number
  /** For how long a confirmation holds, in milliseconds. */
  freshMs?: number
  /** For how long it holds for reading while PostgreSQL is away, in milliseconds. */
  staleMs?: number
}

export function createKeyCache(options: KeyCacheOptions): KeyCache {
  const { pool, max = 10_000, freshMs = 1000, staleMs = 60_000 } = options
  const keys = new LRUCache<string, KnownKey>({ max })
  const listeners = new Set<() => void>()
  let version = -1
  /** When the last successful look began. */
  let confirmedAt = Number.NEGATIVE_INFINITY
  let away = false

  const reread = async (found: number) => {
    const ids = [...keys.rkeys()]
    const rows = ids.length === 0 ? [] : await readKeyRows(pool, ids)
    version = rows[0]?.version ?? found
    keys.clear()
    // What was remembered longest ago comes first, and so is again the first to be forgotten.
    for (const row of rows) if (row.known) keys.set(row.id, knownKey(row))
    for (const listener of listeners) listener()
  }

  const check = sharedReading(async () => {
    const began = performance.now()
    try {
      const found = await readKeysVersion(pool)
      // Behind an outage the database may be another one, restored from a backup, that has counted as far.
      if (found !== version || away) await reread(found)
      confirmedAt = began
      away = false
    } catch (error) {
      away = true
      throw error
    }
  })

  const mayUseStale = (use: Use) => use === 'read' && performance.now() - confirmedAt < staleMs

  return {
    find(id) {
      const key = keys.get(id)
      return key !== undefined && key.version >= version ? key : undefined
    },
    async read(id) {
      const [row] = await readKeyRows(pool, [id])
      return knownKey(row as KeyRow)
    },
    remember(key) {
      // What was read before the last change must not outlive it.
      if (key.version >= version) keys.set(key.id, key)
    },
    async confirm(use) {
      if (performance.now() - confirmedAt < freshMs) return
      if (away && mayUseStale(use)) {
        // Whether it is back is looked at, but not waited for.
        void check().catch(() => {})
        return
      }
      try {
        await check()
      } catch (error) {
        if (!mayUseStale(use)) throw error
      }
    },
    check,
    onChange(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    watch(pollMs) {
      const timer = setInterval(() => void check().catch(() => {}), pollMs)
      timer.unref()
      return () => clearInterval(timer)
    },
  }
}

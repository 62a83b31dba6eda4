import type { Pool } from '../db/pool.js'
import { noteKeyUse } from '../store/keys.js'

/** When keys were last used, gathered and written once a minute a key at most: a request never waits for it. */
export interface KeyUsage {
  note(keyId: string): void
  /** Writes what is gathered; what cannot be written now is let go, because the next use tells it anew. */
  flush(): Promise<void>
  /** Starts writing in the background; the returned function stops it and writes the rest. */
  watch(flushMs: number): () => Promise<void>
}

const EACH_MS = 60_000

export function createKeyUsage(pool: Pool): KeyUsage {
  /** When each key's use was last noted: those of the last minute. */
  let noted = new Map<string, number>()
  let pending = new Map<string, number>()

  const flush = async () => {
    const now = Date.now()
    noted = new Map([...noted].filter(([, at]) => now - at < EACH_MS))
    if (pending.size === 0) return
    const uses = pending
    pending = new Map()
    await noteKeyUse(pool, uses).catch(() => {})
  }
  return {
    note(keyId) {
      const now = Date.now()
      if (now - (noted.get(keyId) ?? 0) < EACH_MS) return
      noted.set(keyId, now)
      pending.set(keyId, now)
    },
    flush,
    watch(flushMs) {
      const timer = setInterval(() => void flush(), flushMs)
      timer.unref()
      return () => {
        clearInterval(timer)
        return flush()
      }
    },
  }
}

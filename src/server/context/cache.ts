import type { Hints } from '../changes/hints.js'
import type { Config } from '../config/index.js'
import { availabilityOf, type Pool } from '../db/pool.js'
import type { Follower, Log } from '../followers/contract.js'
import { createTouchedFollower } from '../followers/touched.js'
import { createDocumentCache, type DocumentCache } from '../services/document-cache.js'

/** Twice within the time for which the cache may be used after a reading. */
const POLL_MS = 500

/** The cache, and what keeps it true: without its follower running, nothing is found. Undefined when it is off. */
export function openCache(
  config: Config,
  { pool, hints, log }: { pool: Pool; hints: Hints; log: Log },
): { cache: DocumentCache; follower: Follower } | undefined {
  const { cacheMaxBytes: maxBytes, cacheMaxSize: maxDocuments, cacheTtlSeconds } = config
  if (maxBytes === 0 || maxDocuments === 0 || cacheTtlSeconds === 0) return undefined
  const { reach } = availabilityOf(pool)
  const cache = createDocumentCache({
    maxBytes,
    maxDocuments,
    ttlMs: cacheTtlSeconds * 1000,
    // While PostgreSQL is away the mirror answers, and says so (I9).
    currentAt: () => (reach.state === 'closed' ? follower.currentAt : Number.NEGATIVE_INFINITY),
  })
  const follower = createTouchedFollower({
    pool,
    hints,
    log,
    pollMs: Math.min(config.followPollMs, POLL_MS),
    listener: {
      touched({ collections, ids }) {
        for (const [index, id] of ids.entries()) cache.forget(collections[index] ?? '', id)
      },
      lost: cache.forgetAll,
    },
  })
  return { cache, follower }
}

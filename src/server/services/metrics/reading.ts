import { availabilityOf, type Pool } from '../../db/pool.js'

/** How long the statements of a scrape may take before what was known last is told. */
const LIMIT_MS = 500

/** What was read from PostgreSQL last. */
export interface Reading<T> {
  readonly known: T | undefined
  /** True when PostgreSQL answered when it was last asked. */
  readonly up: boolean
  /** Asks again, unless what is known is young enough; never rejects, and waits no longer than LIMIT_MS. */
  refresh(): Promise<void>
}

/**
 * Reads something for /metrics. All who ask at once share a question, one that takes long goes on without anybody
 * waiting for it, and none is asked while PostgreSQL is away.
 * @param ageMs How old what is known may be before it is asked for again; 0 asks with each scrape.
 */
export function createReading<T>(pool: Pool, read: (pool: Pool) => Promise<T>, ageMs = 0): Reading<T> {
  let known: T | undefined
  let knownAt = Number.NEGATIVE_INFINITY
  let up = false
  let reading: Promise<void> | undefined
  let refreshing: Promise<void> | undefined

  const ask = async (): Promise<void> => {
    if (availabilityOf(pool).reach.state !== 'closed') {
      up = false
      return
    }
    let late: NodeJS.Timeout | undefined
    // One that takes longer goes on, and a second is not asked beside it.
    reading ??= read(pool)
      .then((found) => {
        known = found
        knownAt = performance.now()
        up = true
      })
      .catch(() => {
        up = false
      })
      .finally(() => {
        reading = undefined
      })
    const limit = new Promise<'late'>((resolve) => {
      late = setTimeout(() => resolve('late'), LIMIT_MS)
    })
    if ((await Promise.race([reading, limit])) === 'late') up = false
    clearTimeout(late)
  }

  return {
    get known() {
      return known
    },
    get up() {
      return up
    },
    refresh() {
      if (performance.now() - knownAt < ageMs) return Promise.resolve()
      // All metrics of one scrape share one question.
      refreshing ??= ask().finally(() => {
        setImmediate(() => {
          refreshing = undefined
        })
      })
      return refreshing
    },
  }
}

import type { Pool } from '../db/pool.js'
import { type Sample, storeReport } from '../store/mirrors.js'

export interface ReportOptions {
  pool: Pool
  id: string
  instance: string
  /** The machine, and the kind of store: so that any instance can tell. */
  host: string
  kind: string
}

const EVERY_MS = 1000
const WINDOW_MS = 60_000

/**
 * The heartbeat of a follower: once a second its leader stores that it is there and how fast it gets on, so that every
 * instance can tell. On other instances it does nothing. Losing a report costs nothing.
 */
export function createReport({ pool, id, instance, host, kind }: ReportOptions) {
  let samples: Sample[] = []
  let timer: NodeJS.Timeout | undefined
  let storing: Promise<void> | undefined

  const report = async () => {
    const sample = await storeReport(pool, id, instance, { host, kind, ...ratesOf(samples) })
    // Another leader's progress is not this one's.
    samples = sample === undefined ? [] : [...samples.filter(({ at }) => at > sample.at - WINDOW_MS), sample]
  }

  return {
    run() {
      timer = setInterval(() => {
        storing ??= report()
          .catch(() => {})
          .finally(() => {
            storing = undefined
          })
      }, EVERY_MS)
    },
    async stop() {
      clearInterval(timer)
      await storing
    },
  }
}

/** Changes a second between the first sample and the last. A position that was set back counts as none. */
export function ratesOf(samples: readonly Sample[]): {
  appliedPerS: number | null
  writtenPerS: number | null
} {
  const [first, last] = [samples[0], samples.at(-1)]
  const seconds = first === undefined || last === undefined ? 0 : (last.at - first.at) / 1000
  if (first === undefined || last === undefined || seconds <= 0)
    return { appliedPerS: null, writtenPerS: null }
  const rate = (from: number, to: number) => Math.max(0, to - from) / seconds
  return { appliedPerS: rate(first.position, last.position), writtenPerS: rate(first.head, last.head) }
}

import { Counter, Histogram, Registry } from 'prom-client'
import { type Trouble, troubles } from '../../mirror/trouble.js'
import { type Answered, createDurations } from './durations.js'

/** What is counted as it happens: nothing but additions, so that nobody has to wait for it. */
export interface Counters {
  registry: Registry
  /** What counts the answers of a route, named by its pattern such as /api/v1/:collection/:id; `none` for no route. */
  route(method: string, route: string): Answered
  /** One statement for so many writes (I11). */
  gathered(rows: number): void
  /** One attempt to apply changes to the mirror. */
  applied(documents: number, ms: number, trouble: Trouble | undefined): void
}

const APPLY_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
const BATCH_BUCKETS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 500]

export function createCounters(): Counters {
  const registry = new Registry()
  const registers = [registry]
  const batches = new Histogram({
    name: 'dualstore_gather_batch_size',
    help: 'Writes that shared a statement.',
    buckets: BATCH_BUCKETS,
    registers,
  })
  const applied = new Counter({
    name: 'dualstore_mirror_applied_total',
    help: 'Documents that this process has applied to the mirror.',
    registers,
  })
  const durations = new Histogram({
    name: 'dualstore_mirror_apply_duration_seconds',
    help: 'Time of attempts to apply changes to the mirror, failed ones included.',
    buckets: APPLY_BUCKETS,
    registers,
  })
  const failures = new Counter({
    name: 'dualstore_mirror_apply_failures_total',
    help: 'Attempts to apply changes that failed and are made again, by kind of trouble.',
    labelNames: ['kind'],
    registers,
  })
  // A rate needs the zero before the first failure.
  for (const kind of troubles) failures.inc({ kind }, 0)

  return {
    registry,
    route: createDurations(registry),
    gathered: (rows) => batches.observe(rows),
    applied(documents, ms, trouble) {
      durations.observe(ms / 1000)
      if (trouble === undefined) applied.inc(documents)
      else failures.inc({ kind: trouble })
    },
  }
}

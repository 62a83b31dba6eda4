import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Counter, Gauge, type Registry } from 'prom-client'
import type { Breaker, BreakerState } from '../../breaker.js'
import { availabilityOf, type Pool } from '../../db/pool.js'
import type { Progress } from '../../followers/progress.js'
import type { GuardedMirror } from '../../mirror/guarded.js'
import { troubles } from '../../mirror/trouble.js'
import type { Gatherer } from '../gatherer.js'
import type { StreamService } from '../streams.js'

/** What is looked at when metrics are asked for, all of it in this process. */
export interface GaugeOptions {
  registry: Registry
  version: string
  pool: Pool
  mirror: GuardedMirror | undefined
  progress: Progress | undefined
  gatherer: Gatherer
  streams: StreamService
}

const STATES: Readonly<Record<BreakerState, number>> = { closed: 0, half_open: 1, open: 2 }
const EVENT_LOOP_RESOLUTION_MS = 20

/** Registers the gauges; the returned function ends what measures for them. */
export function registerGauges(options: GaugeOptions): () => void {
  const { registry, pool, mirror, gatherer, streams } = options
  const registers = [registry]
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read())
      },
    })
  const labelled = (name: string, help: string, label: string, read: () => Record<string, number>) =>
    new Gauge({
      name,
      help,
      labelNames: [label],
      registers,
      collect() {
        for (const [value, number] of Object.entries(read())) this.set({ [label]: value }, number)
      },
    })

  new Gauge({
    name: 'dualstore_build_info',
    help: 'Always 1; the labels tell what runs.',
    labelNames: ['version', 'node'],
    registers,
  }).set({ version: options.version, node: process.version }, 1)

  const { reach, writes } = availabilityOf(pool)
  const breakers: Record<string, Breaker> = {
    postgres: reach,
    postgres_writes: writes,
    ...(mirror && { mirror: mirror.breaker }),
  }
  const ofBreakers = (read: (breaker: Breaker) => number) => () =>
    Object.fromEntries(Object.entries(breakers).map(([store, breaker]) => [store, read(breaker)]))
  labelled(
    'dualstore_breaker_state',
    '0 closed, 1 half open, 2 open: the store is away, or with postgres_writes read-only.',
    'store',
    ofBreakers(({ state }) => STATES[state]),
  )
  new Counter({
    name: 'dualstore_breaker_opened_total',
    help: 'How often the breaker has opened.',
    labelNames: ['store'],
    registers,
    collect() {
      this.reset()
      for (const [store, { opened }] of Object.entries(breakers)) this.inc({ store }, opened)
    },
  })
  labelled('dualstore_pool_connections', 'Connections to PostgreSQL of this process.', 'state', () => ({
    total: pool.totalCount,
    idle: pool.idleCount,
    waiting: pool.waitingCount,
  }))
  gauge('dualstore_gather_waiting', 'Writes that wait for a statement.', () => gatherer.waiting)
  gauge('dualstore_streams_open', 'Streams that are open.', () => streams.clients)
  gauge('dualstore_streams_slow', 'Streams whose client does not read at the moment.', () => streams.slow)
  if (mirror !== undefined) {
    labelled('dualstore_mirror_trouble', '1 for what keeps changes from being applied.', 'kind', () =>
      Object.fromEntries(troubles.map((kind) => [kind, mirror.trouble?.kind === kind ? 1 : 0])),
    )
    gauge('dualstore_mirror_position', 'Position of the mirror, as far as this process knows.', () =>
      options.progress === undefined ? 0 : options.progress.position,
    )
  }
  return registerProcess(registry, gauge, labelled)
}

type Register<Args extends unknown[]> = (name: string, help: string, ...args: Args) => unknown

function registerProcess(
  registry: Registry,
  gauge: Register<[() => number]>,
  labelled: Register<[string, () => Record<string, number>]>,
): () => void {
  const delays = monitorEventLoopDelay({ resolution: EVENT_LOOP_RESOLUTION_MS })
  delays.enable()
  labelled(
    'dualstore_event_loop_delay_seconds',
    'How late the event loop was since metrics were last read.',
    'quantile',
    () => {
      const seconds = (nanoseconds: number) =>
        Math.max(0, nanoseconds / 1e9 - EVENT_LOOP_RESOLUTION_MS / 1000) || 0
      const found = {
        '0.5': seconds(delays.percentile(50)),
        '0.99': seconds(delays.percentile(99)),
        '1': seconds(delays.max),
      }
      delays.reset()
      return found
    },
  )
  const started = Date.now() / 1000 - process.uptime()
  gauge('process_start_time_seconds', 'When the process started, Unix time.', () => started)
  gauge('process_resident_memory_bytes', 'Resident memory.', () => process.memoryUsage.rss())
  gauge('nodejs_heap_used_bytes', 'Heap in use.', () => process.memoryUsage().heapUsed)
  new Counter({
    name: 'process_cpu_seconds_total',
    help: 'Processor time used.',
    registers: [registry],
    collect() {
      const { user, system } = process.cpuUsage()
      this.reset()
      this.inc((user + system) / 1e6)
    },
  })
  return () => delays.disable()
}

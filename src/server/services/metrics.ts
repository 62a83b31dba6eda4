import { Gauge } from 'prom-client'
import type { DocumentCache } from './document-cache.js'
import { registerCache } from './metrics/cache.js'
import type { Counters } from './metrics/counters.js'
import { type GaugeOptions, registerGauges } from './metrics/gauges.js'
import { registerStandings } from './metrics/standings.js'

/** What the last verification of a mirror found. */
export interface VerificationResult {
  /** Documents compared, and those that differ. */
  checked: number
  differences: number
  /** Epoch milliseconds of its end. */
  endedAt: number
}

/** The metrics of this process, in Prometheus' text format. */
export interface MetricsService {
  readonly contentType: string
  /** All of them; asks PostgreSQL at most one small question, and does not wait for one that is away. */
  text(): Promise<string>
  /** Says where to ask for the result of the last verification; what was known last stays when that fails. */
  watchVerification(read: () => Promise<VerificationResult | undefined>): void
  close(): void
}

export interface MetricsOptions extends Omit<GaugeOptions, 'registry'> {
  counters: Counters
  cache: DocumentCache | undefined
}

export function createMetricsService({ counters, cache, ...options }: MetricsOptions): MetricsService {
  const { registry } = counters
  const close = registerGauges({ ...options, registry })
  if (cache !== undefined) registerCache(registry, () => cache.standing)
  registerStandings(registry, options.pool, options.progress)

  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    watchVerification(read) {
      const gauge = (name: string, help: string, collect?: () => Promise<void>) =>
        new Gauge({ name, help, registers: [registry], ...(collect && { collect }) })
      const differences = gauge('dualstore_verification_differences', 'Documents that differed in it.')
      const endedAt = gauge('dualstore_verification_time_seconds', 'When it ended, Unix time.')
      const documents = gauge(
        'dualstore_verification_documents',
        'Documents the last verification compared.',
        async () => {
          const result = await read().catch(() => undefined)
          if (result === undefined) return
          documents.set(result.checked)
          differences.set(result.differences)
          endedAt.set(result.endedAt / 1000)
        },
      )
    },
    close,
  }
}

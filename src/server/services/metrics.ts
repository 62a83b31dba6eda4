import { Gauge } from 'prom-client'
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
  /** Says where to ask for the result of the last verification. */
  watchVerification(read: () => VerificationResult | undefined): void
  close(): void
}

export interface MetricsOptions extends Omit<GaugeOptions, 'registry'> {
  counters: Counters
}

export function createMetricsService({ counters, ...options }: MetricsOptions): MetricsService {
  const { registry } = counters
  const close = registerGauges({ ...options, registry })
  registerStandings(registry, options.pool, options.progress)

  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    watchVerification(read) {
      const gauge = (name: string, help: string, value: (result: VerificationResult) => number) =>
        new Gauge({
          name,
          help,
          registers: [registry],
          collect() {
            const result = read()
            if (result !== undefined) this.set(value(result))
          },
        })
      gauge('dualstore_verification_documents', 'Documents the last verification compared.', (r) => r.checked)
      gauge('dualstore_verification_differences', 'Documents that differed in it.', (r) => r.differences)
      gauge('dualstore_verification_time_seconds', 'When it ended, Unix time.', (r) => r.endedAt / 1000)
    },
    close,
  }
}

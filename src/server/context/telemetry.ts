import { type Config, tracesUrl } from '../config/index.js'
import type { Log } from '../followers/contract.js'
import { withoutSecrets } from '../services/key-format.js'
import type { Reports } from '../telemetry/reports.js'
import type { Tracing } from '../telemetry/tracing.js'

/** What a server tells others about its work. Undefined, and nothing loaded, where nobody wants to know. */
export interface Telemetry {
  tracing: Tracing | undefined
  reports: Reports | undefined
  /** Sends what is left. */
  close(): Promise<void>
}

/** @throws INVALID_CONFIG */
export async function openTelemetry(config: Config, log: Log): Promise<Telemetry> {
  const [tracing, reports] = await Promise.all([startTracing(config, log), startReports(config)])
  return {
    tracing,
    reports,
    close: async () => void (await Promise.all([tracing?.close(), reports?.close()])),
  }
}

async function startTracing(config: Config, log: Log): Promise<Tracing | undefined> {
  const url = tracesUrl(config)
  if (url === undefined) return undefined
  const { openTracing } = await import('../telemetry/tracing.js')
  return openTracing({
    url,
    serviceName: config.otelServiceName,
    version: config.apiVersion,
    sampler: config.otelTracesSampler,
    ratio: config.otelTracesSamplerArg,
    log,
  })
}

async function startReports(config: Config): Promise<Reports | undefined> {
  if (config.sentryDsn === undefined) return undefined
  const { openReports } = await import('../telemetry/reports.js')
  return openReports({
    dsn: config.sentryDsn,
    environment: config.sentryEnvironment,
    release: `dualstore@${config.apiVersion}`,
    withoutSecrets,
  })
}

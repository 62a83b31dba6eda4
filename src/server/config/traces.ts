import { DualstoreError } from '../errors.js'
import type { Config } from './settings.js'

/** The URL that traces are sent to; undefined: nowhere. @throws INVALID_CONFIG */
export function tracesUrl(config: Config): string | undefined {
  const { otelExporterOtlpEndpoint: base, otelExporterOtlpTracesEndpoint: own, otelTracesExporter } = config
  if (config.otelSdkDisabled || otelTracesExporter === 'none') return undefined
  if (base === undefined && own === undefined && otelTracesExporter === undefined) return undefined
  const url = own ?? `${(base ?? 'http://localhost:4318').replace(/\/+$/, '')}/v1/traces`
  if (URL.canParse(url)) return url
  throw new DualstoreError('INVALID_CONFIG', 'the endpoint of OTEL_EXPORTER_OTLP is not a URL')
}

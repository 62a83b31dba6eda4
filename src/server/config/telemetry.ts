import { dsn, flag, oneOf, share, text, url } from './kinds.js'
import { inGroup } from './setting.js'

const tracing = inGroup('Tracing')
const errors = inGroup('Error tracking')
const timing = inGroup('Metrics')

/** Where traces and failures are sent: nowhere, unless told. Environment names are OpenTelemetry's and Sentry's own. */
export const telemetry = {
  serverTiming: timing(flag, false, ['SERVER_TIMING'], {
    help: 'Tell with each answer in Server-Timing how long it took and whom it waited for.',
  }),

  otelExporterOtlpEndpoint: tracing(url('http', 'https'), undefined, ['OTEL_EXPORTER_OTLP_ENDPOINT'], {
    help: 'OTLP/HTTP collector, such as http://localhost:4318; traces go to /v1/traces under it. Unset: no traces.',
    secret: 'in-url',
  }),
  otelExporterOtlpTracesEndpoint: tracing(
    url('http', 'https'),
    undefined,
    ['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'],
    { help: 'The whole URL that traces go to, instead.', secret: 'in-url' },
  ),
  otelTracesExporter: tracing(oneOf('otlp', 'none'), undefined, ['OTEL_TRACES_EXPORTER'], {
    help: 'otlp: send traces, to http://localhost:4318 without an endpoint; none: send none. Unset: as there is an endpoint.',
  }),
  otelSdkDisabled: tracing(flag, false, ['OTEL_SDK_DISABLED'], {
    help: 'true: no traces, whatever else is set.',
  }),
  otelServiceName: tracing(text, 'dualstore', ['OTEL_SERVICE_NAME'], {
    help: 'Name of this service in traces.',
  }),
  otelTracesSampler: tracing(
    oneOf(
      'always_on',
      'always_off',
      'traceidratio',
      'parentbased_always_on',
      'parentbased_always_off',
      'parentbased_traceidratio',
    ),
    'parentbased_always_on',
    ['OTEL_TRACES_SAMPLER'],
    {
      help: 'Which traces are recorded; parentbased: those that the caller records, and of others as it says.',
    },
  ),
  otelTracesSamplerArg: tracing(share, 1, ['OTEL_TRACES_SAMPLER_ARG'], {
    help: 'Share of the traces that a sampler by ratio records.',
  }),

  sentryDsn: errors(dsn, undefined, ['SENTRY_DSN'], {
    help: 'Sentry project that failures are reported to (5xx, crashes). Unset: none.',
    secret: 'all',
  }),
  sentryEnvironment: errors(text, 'production', ['SENTRY_ENVIRONMENT'], {
    help: 'Environment that they are reported under.',
  }),
} as const

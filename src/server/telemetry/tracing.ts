import type { IncomingHttpHeaders } from 'node:http'
import type * as api from '@opentelemetry/api'
import { Activity, during, type Span } from '../activity.js'
import { DualstoreError } from '../errors.js'

/** Changes of the log that a follower takes in one go. */
export interface Batch {
  follower: string
  /** In the log's order; not empty. */
  changes: readonly { seq: number }[]
}

/** One request that is traced. */
export interface TracedRequest {
  method: string
  /** The pattern of its route; `none` when no route took it. */
  route: string
  /** Without the query, which may hold a token. */
  path: string
  requestId: string
  headers: IncomingHttpHeaders
}

/** The span of a request, until it is answered. */
export interface RequestSpan extends Span {
  answered(status: number): void
}

/** Records what is done as spans, and sends them to a collector. */
export interface Tracing {
  /** Begins the span of a request, inside the trace that its `traceparent` names. */
  request(request: TracedRequest): RequestSpan
  /**
   * Runs what applies a batch: a trace of its own that links to the writes of this process in the batch, and a span
   * in the trace of each of these writes.
   */
  batch<T>(batch: Batch, work: () => Promise<T>): Promise<T>
  /** Sends what is left, and ends. */
  close(): Promise<void>
}

/** The settings, by the names that OpenTelemetry has for them. */
export interface TracingOptions {
  /** OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, whole. */
  url: string
  serviceName: string
  version: string
  sampler: Sampler
  /** OTEL_TRACES_SAMPLER_ARG: the share of traces that is recorded, for samplers by ratio. */
  ratio: number
  log: { warn(fields: object, message: string): void }
}

export type Sampler =
  | 'always_on'
  | 'always_off'
  | 'traceidratio'
  | 'parentbased_always_on'
  | 'parentbased_always_off'
  | 'parentbased_traceidratio'

/** Writes that are remembered until a follower has applied them; the oldest are forgotten. */
const REMEMBERED = 10_000

/**
 * Loads OpenTelemetry, which nothing else of this program does, and begins to record. Spans are made by hand where
 * the program knows what it does: instrumentations that patch modules need a loader, cost every request, and know
 * nothing of writes that share a statement.
 * @throws INVALID_CONFIG when the packages are not installed
 */
export async function openTracing(options: TracingOptions): Promise<Tracing> {
  const [otel, { W3CTraceContextPropagator }, { resourceFromAttributes }, sdk, { OTLPTraceExporter }] =
    await loadPackages()
  const { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } = otel
  const own = options.sampler.endsWith('always_on')
    ? new sdk.AlwaysOnSampler()
    : options.sampler.endsWith('always_off')
      ? new sdk.AlwaysOffSampler()
      : new sdk.TraceIdRatioBasedSampler(options.ratio)
  const provider = new sdk.BasicTracerProvider({
    resource: resourceFromAttributes({
      ...attributesOf(process.env.OTEL_RESOURCE_ATTRIBUTES),
      'service.name': options.serviceName,
      'service.version': options.version,
      'service.instance.id': `${process.pid}`,
    }),
    sampler: options.sampler.startsWith('parentbased') ? new sdk.ParentBasedSampler({ root: own }) : own,
    // Reads OTEL_BSP_*, and the exporter the rest of OTEL_EXPORTER_OTLP_* itself.
    spanProcessors: [new sdk.BatchSpanProcessor(new OTLPTraceExporter({ url: options.url }))],
  })
  // What keeps spans from being sent is told once in a while, and never stands in the way.
  otel.diag.setLogger(complaints(options.log), { logLevel: otel.DiagLogLevel.ERROR })
  const tracer = provider.getTracer('dualstore', options.version)
  const propagator = new W3CTraceContextPropagator()
  const writes = createWrites()

  /** The batch that was taken last. */
  let newest = { first: 0, last: -1, join: (_write: api.SpanContext): void => {} }

  const wrap = (span: api.Span): WrappedSpan => ({
    raw: span,
    child({ name, store, attributes }, alsoFor = []) {
      const begun = tracer.startSpan(
        name,
        {
          kind: store === undefined || store === 'cache' ? SpanKind.INTERNAL : SpanKind.CLIENT,
          attributes: { ...(store !== undefined && { 'db.system.name': store }), ...attributes },
          links: alsoFor.map((other) => ({ context: rawOf(other).spanContext() })),
        },
        trace.setSpan(ROOT_CONTEXT, span),
      )
      return wrap(begun)
    },
    wrote(position) {
      if (!span.isRecording()) return
      span.setAttribute('dualstore.position', position)
      // A follower may read what is committed before its writer has been told.
      if (position >= newest.first && position <= newest.last) newest.join(span.spanContext())
      else writes.remember(position, span.spanContext())
    },
    answered(status) {
      span.setAttribute('http.response.status_code', status)
      if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR })
      span.end()
    },
    end(error) {
      if (error !== undefined) {
        span.setAttribute('error.type', typeOf(error))
        span.setStatus({ code: SpanStatusCode.ERROR })
      }
      span.end()
    },
  })

  return {
    request({ method, route, path, requestId, headers }) {
      const parent = propagator.extract(ROOT_CONTEXT, headers, otel.defaultTextMapGetter)
      const attributes = {
        'http.request.method': method,
        'http.route': route,
        'url.path': path,
        'url.scheme': 'http',
        'dualstore.request_id': requestId,
      }
      return wrap(tracer.startSpan(`${method} ${route}`, { kind: SpanKind.SERVER, attributes }, parent))
    },

    async batch({ follower, changes }, work) {
      const first = changes[0]?.seq ?? 0
      const last = changes.at(-1)?.seq ?? 0
      const applied = writes.take(first, last)
      const attributes = {
        'dualstore.follower': follower,
        'dualstore.position.first': first,
        'dualstore.position': last,
        'dualstore.changes': changes.length,
      }
      const name = `${follower} apply`
      const batch = tracer.startSpan(name, { kind: SpanKind.CONSUMER, attributes, root: true })
      const link = [{ context: batch.spanContext() }]
      const spans = [batch]
      const join = (write: api.SpanContext) => {
        const options = { kind: SpanKind.CONSUMER, attributes, links: link }
        spans.push(tracer.startSpan(name, options, trace.setSpanContext(ROOT_CONTEXT, write)))
        batch.addLink({ context: write })
        if (ended) finish()
      }
      let ended = false
      const finish = (error?: unknown) => {
        ended = true
        for (const span of spans.splice(0)) wrap(span).end(error)
      }
      applied.forEach(join)
      newest = { first, last, join }
      try {
        const result = await during(new Activity(wrap(batch), undefined), work)
        finish()
        return result
      } catch (error) {
        finish(error)
        // They are applied again, and looked for again.
        newest = { ...newest, last: -1 }
        for (const context of applied) writes.remember(last, context)
        throw error
      }
    },

    async close() {
      // A collector that is away must not keep a server from ending.
      await provider.shutdown().catch(() => {})
    },
  }
}

interface WrappedSpan extends RequestSpan {
  raw: api.Span
}

/** Every span of a request or batch is one of those made here. */
function rawOf(span: Span): api.Span {
  return (span as WrappedSpan).raw
}

/** The writes of this process that are on their way through the log, by the position that their statement reached. */
function createWrites() {
  const known = new Map<number, api.SpanContext[]>()
  let count = 0
  return {
    remember(position: number, context: api.SpanContext) {
      const others = known.get(position)
      if (others === undefined) known.set(position, [context])
      else others.push(context)
      count++
      for (const [oldest, contexts] of known) {
        if (count <= REMEMBERED) break
        known.delete(oldest)
        count -= contexts.length
      }
    },
    /** Those whose position is among these, and forgets them. */
    take(first: number, last: number): api.SpanContext[] {
      const taken: api.SpanContext[] = []
      for (const [position, contexts] of known) {
        if (position < first || position > last) continue
        known.delete(position)
        count -= contexts.length
        taken.push(...contexts)
      }
      return taken
    },
  }
}

const COMPLAIN_MS = 60_000

/** OpenTelemetry's own errors, one in a minute. */
function complaints(log: TracingOptions['log']): api.DiagLogger {
  let next = 0
  const error = (message: string) => {
    if (performance.now() < next) return
    next = performance.now() + COMPLAIN_MS
    log.warn({ reason: message.slice(0, 500) }, 'traces cannot be sent')
  }
  const nothing = () => {}
  return { error, warn: nothing, info: nothing, debug: nothing, verbose: nothing }
}

/** What went wrong, without the words of it: drivers quote what clients have stored. */
function typeOf(error: unknown): string {
  if (error instanceof DualstoreError) return error.code
  const { code, name } = error as { code?: unknown; name?: unknown }
  return typeof code === 'string' ? code : typeof name === 'string' ? name : typeof error
}

async function loadPackages() {
  try {
    return await Promise.all([
      import('@opentelemetry/api'),
      import('@opentelemetry/core'),
      import('@opentelemetry/resources'),
      import('@opentelemetry/sdk-trace-base'),
      import('@opentelemetry/exporter-trace-otlp-http'),
    ])
  } catch (cause) {
    throw new DualstoreError(
      'INVALID_CONFIG',
      'tracing needs the optional packages of OpenTelemetry: install without --omit=optional, or set OTEL_TRACES_EXPORTER=none',
      { cause },
    )
  }
}

/** OTEL_RESOURCE_ATTRIBUTES: key=value, separated by commas, values percent-encoded. */
function attributesOf(text = ''): Record<string, string> {
  return Object.fromEntries(
    text.split(',').flatMap((pair) => {
      const [, key, value] = /^\s*([^=\s]+)\s*=\s*(.*?)\s*$/.exec(pair) ?? []
      if (key === undefined || value === undefined) return []
      try {
        return [[key, decodeURIComponent(value)]]
      } catch {
        return [[key, value]]
      }
    }),
  )
}

import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gunzipSync } from 'node:zlib'
import { atEndOfFile } from './leaks.js'

/** A request as it came in. */
export interface Received {
  path: string
  headers: IncomingMessage['headers']
  body: string
}

/** An HTTP server that takes everything and keeps it, for what is sent to collectors. Closed after the file. */
export async function startCollector(): Promise<{ url: string; received: Received[] }> {
  const received: Received[] = []
  const server = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      const sent = Buffer.concat(parts)
      const body = request.headers['content-encoding'] === 'gzip' ? gunzipSync(sent) : sent
      received.push({ path: request.url ?? '', headers: request.headers, body: body.toString() })
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  atEndOfFile(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, received }
}

/** A span, with its attributes as one object. */
export interface SentSpan {
  traceId: string
  spanId: string
  parentSpanId: string | undefined
  name: string
  kind: number
  /** Nanoseconds since the epoch. */
  start: bigint
  end: bigint
  attributes: Record<string, unknown>
  links: { traceId: string; spanId: string }[]
  status: number
  service: unknown
}

/** The spans of OTLP/HTTP requests in JSON: opentelemetry-proto, ExportTraceServiceRequest. */
export function spansIn(received: readonly Received[]): SentSpan[] {
  return received.flatMap(({ body }) => {
    const { resourceSpans } = JSON.parse(body) as { resourceSpans: ResourceSpans[] }
    return resourceSpans.flatMap(({ resource, scopeSpans }) =>
      scopeSpans.flatMap(({ spans }) =>
        spans.map((span) => ({
          ...span,
          parentSpanId: span.parentSpanId || undefined,
          start: BigInt(span.startTimeUnixNano),
          end: BigInt(span.endTimeUnixNano),
          attributes: attributesOf(span.attributes),
          links: span.links ?? [],
          status: span.status.code ?? 0,
          service: attributesOf(resource.attributes)['service.name'],
        })),
      ),
    )
  })
}

interface ResourceSpans {
  resource: { attributes: Attribute[] }
  scopeSpans: { spans: RawSpan[] }[]
}

interface RawSpan {
  traceId: string
  spanId: string
  parentSpanId?: string
  name: string
  kind: number
  startTimeUnixNano: string
  endTimeUnixNano: string
  attributes: Attribute[]
  links?: { traceId: string; spanId: string }[]
  status: { code?: number }
}

interface Attribute {
  key: string
  value: Record<string, unknown>
}

function attributesOf(attributes: readonly Attribute[]): Record<string, unknown> {
  return Object.fromEntries(
    attributes.map(({ key, value }) => {
      const [type, raw] = Object.entries(value)[0] ?? []
      return [key, type === 'intValue' ? Number(raw) : raw]
    }),
  )
}

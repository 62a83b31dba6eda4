import { once } from 'node:events'
import {
  type ClientRequest,
  createServer,
  type IncomingMessage,
  request as requestHttp,
  type ServerResponse,
} from 'node:http'
import { request as requestHttps } from 'node:https'
import type { AddressInfo } from 'node:net'
import { EVENT_STREAM } from '../../server/schemas/media-types.js'
import { classified } from './check.js'
import { createCollector } from './collector.js'
import { comparedOf } from './compare.js'
import type { Variant } from './contract.js'
import { type Exchange, headersOf, parsed, type Side } from './exchange.js'
import { type Finding, type Report, reportOf, resultOf } from './findings.js'
import { MADE_UP_ID, partsOf, routeOf } from './routes.js'
import { survey } from './survey.js'

export interface ShadowOptions {
  target: Side
  legacy: Side
  /** Clients send their own credentials to the legacy server; `target` has a key of its own, or gets theirs. */
  ownKey: boolean
  keyOnTargetOnly: boolean
  variant: Variant | 'auto'
  listen: { host: string; port: number }
  /** Told of the first request of each kind of finding. */
  onFinding: (finding: Finding) => void
}

export interface Shadow {
  /** Where it listens. */
  url: string
  /** What was found until now. */
  report(): Report
  /** Stops listening, waits for comparisons that are under way, leaves the others, and tells what was found. */
  stop(): Promise<Report>
}

/** Larger answers are passed on and not compared; bytes. */
const MAX_BODY = 4 * 1024 * 1024
/** What may be held for comparisons at once; bytes. */
const MAX_HELD = 64 * 1024 * 1024
const MAX_WAITING = 200
const CONCURRENCY = 4
/** How long the target may be behind the legacy server: then a difference is looked at once more. */
const SETTLE_MS = 1500

/** Above the 60 s of common balancers. */
const KEEP_ALIVE_MS = 72_000

/** Of one connection and none of the next (RFC 9110, section 7.6.1). */
const HOP_BY_HOP = [
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]
/** Of a request, what has nothing to do with another server: conditions on its versions, and compression. */
const NOT_COMPARED = [
  ...HOP_BY_HOP,
  'host',
  'content-length',
  'accept-encoding',
  'if-none-match',
  'if-modified-since',
  'range',
]

interface Job {
  exchange: Exchange & { headers: Record<string, string> }
  status: number
  headers: Record<string, string>
  text: string
}

/**
 * A proxy in front of the legacy server. Clients get its answers as they come; what they read is read from the target
 * too, behind their back, and compared. Writes reach the legacy server alone.
 */
export async function startShadow(options: ShadowOptions): Promise<Shadow> {
  const { target, legacy, listen, onFinding, ownKey } = options
  const known = await survey(target, legacy, options.variant)
  const facts = { ...known.facts, keyOnTargetOnly: options.keyOnTargetOnly }
  const collector = createCollector()
  const waiting: Job[] = []
  const stopping = new AbortController()
  const counts = { compared: 0, dropped: 0, passed: 0 }
  let held = 0
  let running = 0
  let idle = () => {}

  const compareOnce = async ({ exchange, status, headers, text }: Job): Promise<Finding> => {
    const answer = { status, headers, body: parsed(text) }
    const asked = ownKey ? { ...exchange, headers: without(exchange.headers, ['authorization']) } : exchange
    const compared = comparedOf(exchange, answer, await target.ask(asked, { authorized: ownKey }))
    return resultOf(kindOf(exchange), 'value', classified(compared, 'value', facts))
  }
  const compare = async (job: Job): Promise<Finding> => {
    const finding = await compareOnce(job)
    if (finding.class !== 'breaking' || stopping.signal.aborted) return finding
    await settled(stopping.signal)
    const { exchange } = job
    const again = await legacy.ask(exchange, { authorized: false })
    return compareOnce({ ...job, ...again, text: JSON.stringify(again.body) ?? '' })
  }
  const work = async () => {
    running++
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) {
      // Whatever goes wrong with a comparison, clients of the proxy must not notice.
      const finding = await compare(job).catch(() => undefined)
      held -= job.text.length
      if (finding === undefined) counts.dropped++
      else {
        counts.compared++
        if (collector.add(finding)) onFinding(finding)
      }
    }
    running--
    if (running === 0) idle()
  }
  const enqueue = (job: Job) => {
    if (waiting.length >= MAX_WAITING || stopping.signal.aborted) {
      held -= job.text.length
      counts.dropped++
      return
    }
    waiting.push(job)
    if (running < CONCURRENCY) void work()
  }

  /** Keeps a copy of an answer while it is passed on, unless it is too large or there is too much already. */
  const copy = (request: IncomingMessage, upstream: IncomingMessage) => {
    const headers = headersOf(upstream)
    const plain = [undefined, 'identity'].includes(headers['content-encoding'])
    const stream = headers['content-type']?.startsWith(EVENT_STREAM)
    if (!['GET', 'HEAD'].includes(request.method ?? '') || !plain || stream) {
      counts.passed++
      return
    }
    let chunks: Buffer[] | undefined = []
    let bytes = 0
    const release = () => {
      held -= bytes
      chunks = undefined
    }
    upstream.on('data', (chunk: Buffer) => {
      if (chunks === undefined) return
      bytes += chunk.length
      held += chunk.length
      chunks.push(chunk)
      if (bytes <= MAX_BODY && held <= MAX_HELD) return
      release()
      counts.dropped++
    })
    upstream.once('close', () => {
      if (chunks === undefined) return
      const text = Buffer.concat(chunks).toString('utf8')
      release()
      if (!upstream.complete) return
      held += text.length
      enqueue({ exchange: exchangeOf(request), status: upstream.statusCode ?? 0, headers, text })
    })
  }

  const upstreamOf = requesterOf(legacy.url)
  const server = createServer((request, response) => {
    const refuse = (status: number, error: string, message: string) => {
      if (response.headersSent) return void response.destroy()
      response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' })
      response.end(JSON.stringify({ success: false, error, message }))
    }
    let upstream: ClientRequest
    try {
      upstream = upstreamOf(request)
    } catch (error) {
      return refuse(400, 'Invalid request', (error as Error).message)
    }
    upstream.once('response', (answer) => {
      copy(request, answer)
      passOn(answer, response)
    })
    upstream.on('error', (error) => refuse(502, 'Bad gateway', error.message))
    response.once('close', () => upstream.destroy())
    request.pipe(upstream)
  })
  // A long upload is the legacy server's to end.
  server.requestTimeout = 0
  server.keepAliveTimeout = KEEP_ALIVE_MS
  server.listen(listen.port, listen.host)
  await once(server, 'listening')
  const { address, port } = server.address() as AddressInfo
  const report = () =>
    reportOf(collector.findings(), {
      target: target.url,
      reference: legacy.url,
      variant: known.variant,
      interrupted: false,
      notes: [
        `${counts.compared} reads were compared, ${counts.dropped} left out because there were too many or too large, ` +
          `${counts.passed} other requests and streams passed on.`,
      ],
    })
  return {
    url: `http://${address.includes(':') ? `[${address}]` : address}:${port}`,
    report,
    async stop() {
      stopping.abort()
      counts.dropped += waiting.splice(0).length
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
      if (running > 0) {
        await new Promise<void>((resolve) => {
          idle = resolve
        })
      }
      return report()
    },
  }
}

/**
 * Sends requests on as they came, path and all. Each on a connection of its own: one that is kept may be closed by the
 * server just when it is used again.
 * @throws when it cannot be sent on at all
 */
function requesterOf(legacyUrl: string): (request: IncomingMessage) => ClientRequest {
  const { protocol, hostname, port, pathname } = new URL(legacyUrl)
  const send = protocol === 'https:' ? requestHttps : requestHttp
  const host = hostname.replace(/^\[|\]$/g, '')
  return (request) =>
    send({
      protocol,
      host,
      port,
      path: `${pathname.replace(/\/$/, '')}${request.url}`,
      method: request.method ?? 'GET',
      headers: forwarded(request, legacyUrl),
      agent: false,
    })
}

/** Status, headers and bytes as they come, framing aside. */
function passOn(answer: IncomingMessage, response: ServerResponse): void {
  const headers = answer.rawHeaders.filter((_, at, all) => {
    const name = all[at - (at % 2)] ?? ''
    return !HOP_BY_HOP.includes(name.toLowerCase())
  })
  response.sendDate = false
  response.writeHead(answer.statusCode ?? 502, answer.statusMessage, headers)
  // A stream's head must not wait for its first event.
  response.flushHeaders()
  answer.pipe(response)
  answer.on('error', () => response.destroy())
  answer.once('close', () => {
    if (!answer.complete) response.destroy()
  })
}

function forwarded(request: IncomingMessage, url: string): Record<string, string> {
  const headers = without(headersOf(request), [...HOP_BY_HOP, 'host'])
  // A body without a length comes in chunks, and goes on in chunks.
  const chunked = request.headers['transfer-encoding'] !== undefined
  return { ...headers, host: new URL(url).host, ...(chunked && { 'transfer-encoding': 'chunked' }) }
}

function exchangeOf(request: IncomingMessage): Job['exchange'] {
  return {
    method: request.method ?? 'GET',
    path: request.url ?? '/',
    headers: without(headersOf(request), NOT_COMPARED),
  }
}

function without(headers: Record<string, string>, names: readonly string[]): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !names.includes(name)))
}

/** Requests of one kind: the same route with the same parameters, whatever their values. */
function kindOf({ method, path }: Exchange): string {
  const route = routeOf(method, path)
  const parameters = [...partsOf(path).searchParams.keys()].sort().map((name) => `${name}=…`)
  const query = parameters.length > 0 ? `?${parameters.join('&')}` : ''
  if (route.kind !== 'item') return `${method} ${path.split('?')[0]}${query}`
  const id = MADE_UP_ID.test(route.id) ? '<id from a list>' : '<id>'
  return `${method} /api/v1/${route.collection}/${id}${query}`
}

async function settled(signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, SETTLE_MS)
    signal.addEventListener('abort', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}

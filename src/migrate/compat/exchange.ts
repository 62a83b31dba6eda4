import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'
import { createParser } from 'eventsource-parser'
import { EVENT_STREAM } from '../../server/schemas/media-types.js'

/** A request as it is sent to either side. */
export interface Exchange {
  method: string
  /** With its query, behind the URL of the side: `/api/v1/agent_tasks?limit=1`. */
  path: string
  headers?: Readonly<Record<string, string>>
  body?: string
  hints?: Hints
}

/** What is known of a request that was made up for a check; nothing of one that somebody else sent. */
export interface Hints {
  /** It breaks the contract of its route, or keeps it. */
  bad?: boolean
  /** No document has its id. */
  unknownId?: boolean
  /** Its id is one that a client chose when it created the document. */
  ownId?: boolean
  /** The `created_at` of a document that is there and must come first. */
  firstCreatedAt?: string
}

/** One event of a stream, without what only an EventSource looks at. */
export interface Frame {
  /** undefined: unnamed, for `onmessage`. */
  event: string | undefined
  /** Its JSON, or its text when it is none. */
  data: unknown
}

/** What a side answered. */
export interface Answer {
  /** 0: no answer came, or it broke off. */
  status: number
  headers: Readonly<Record<string, string>>
  /** The JSON of the body; undefined when it is none. */
  body: unknown
  /** What a stream sent within the time; undefined when the answer is no stream. */
  frames?: readonly Frame[]
  /** True when comments came too, such as `: ping`. */
  comments?: boolean
  /** Why no whole answer came. */
  failure?: string
}

/** One of the two servers. */
export interface Side {
  url: string
  /** Sends a request; never rejects: what goes wrong is told in the answer. */
  ask(exchange: Exchange, options?: AskOptions): Promise<Answer>
  close(): void
}

export interface AskOptions {
  /** false: without the side's own token. */
  authorized?: boolean
  /** How long a stream is listened to, in milliseconds, unless `enough` says so before. */
  listenMs?: number
  enough?: (frames: readonly Frame[]) => boolean
}

export interface SideOptions {
  /** Without a slash at the end. */
  url: string
  /** Sent as `Authorization: Bearer`, unless a request has its own. */
  token?: string | undefined
  /** How long an answer may take, in milliseconds. */
  timeoutMs?: number
  /** Largest body that is kept, in bytes; a larger one counts as broken off. */
  maxBytes?: number
}

const LISTEN_MS = 3000

/** A server as it is asked. Connections are kept until `close`. */
export function openSide({ url, token, timeoutMs = 30_000, maxBytes = 64 * 1024 * 1024 }: SideOptions): Side {
  const secure = url.startsWith('https:')
  const agent = secure ? new HttpsAgent({ keepAlive: true }) : new HttpAgent({ keepAlive: true })
  const request = secure ? requestHttps : requestHttp

  const send = (exchange: Exchange, authorized: boolean) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      const { method, path, headers, body } = exchange
      const sent = request(`${url}${path}`, {
        method,
        agent,
        timeout: timeoutMs,
        headers: {
          ...(authorized && token !== undefined && { authorization: `Bearer ${token}` }),
          ...(body !== undefined && { 'content-length': Buffer.byteLength(body) }),
          ...headers,
        },
      })
      sent.once('response', resolve)
      sent.once('error', reject)
      sent.once('timeout', () => sent.destroy(new Error(`no answer within ${timeoutMs} ms`)))
      sent.end(body)
    })

  return {
    url,
    async ask(exchange, { authorized = true, listenMs = LISTEN_MS, enough = () => false } = {}) {
      try {
        const response = await send(exchange, authorized)
        const head = { status: response.statusCode ?? 0, headers: headersOf(response) }
        if (head.headers['content-type']?.startsWith(EVENT_STREAM))
          return { ...head, body: undefined, ...(await listen(response, listenMs, enough)) }
        return { ...head, body: parsed(await bodyOf(response, maxBytes)) }
      } catch (error) {
        return { status: 0, headers: {}, body: undefined, failure: (error as Error).message }
      }
    },
    close: () => agent.destroy(),
  }
}

/** The headers that were sent, by lower-case name; several of one name in one text. */
export function headersOf({ headers }: Pick<IncomingMessage, 'headers'>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]))
}

/** The JSON of a text; undefined when it is none. */
export function parsed(text = ''): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

async function bodyOf(response: IncomingMessage, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > maxBytes) throw new Error(`the answer is larger than ${maxBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** What a stream sends until it is enough, the time is up, or the server ends it. */
function listen(
  response: IncomingMessage,
  listenMs: number,
  enough: (frames: readonly Frame[]) => boolean,
): Promise<{ frames: Frame[]; comments: boolean }> {
  return new Promise((resolve) => {
    const frames: Frame[] = []
    let comments = false
    const parser = createParser({
      onEvent: ({ event, data }) => void frames.push({ event, data: parsed(data) ?? data }),
      onComment: () => {
        comments = true
      },
    })
    const done = () => {
      clearTimeout(timer)
      response.destroy()
      resolve({ frames, comments })
    }
    const timer = setTimeout(done, listenMs)
    response.setEncoding('utf8')
    response.on('data', (text: string) => {
      parser.feed(text)
      if (enough(frames)) done()
    })
    response.once('close', done)
    response.on('error', done)
  })
}

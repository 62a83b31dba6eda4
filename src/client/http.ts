import { DualstoreClientError, refusal } from './errors.js'
import { type Repeatable, type RetryOptions, withRetries } from './retry.js'
import { createWatch, type Watch } from './watch.js'

/** Where the server is and how it is spoken to. */
export interface ConnectionOptions {
  /** The server, such as `https://host:3000`; may have a path in front of the API. */
  url: string
  /** Sent as a bearer token. A function is asked before every attempt, so that a token can be renewed. */
  key?: string | (() => string | undefined | Promise<string | undefined>) | undefined
  /** Instead of the global one. */
  fetch?: typeof globalThis.fetch | undefined
  /** What stands before every route; `/api/v1` by default. */
  prefix?: string | undefined
  /** How long an attempt may take in milliseconds, and an export be silent; 30,000 by default. */
  timeoutMs?: number | undefined
  retry?: RetryOptions | undefined
}

/** What every call takes. */
export interface CallOptions {
  signal?: AbortSignal | undefined
  /** Instead of the client's. */
  timeoutMs?: number | undefined
}

export interface HttpRequest extends CallOptions {
  method?: string
  /** Segments behind the prefix, not encoded. */
  path: readonly string[]
  query?: Readonly<Record<string, string | number | undefined>>
  /** Those that are undefined are left out. */
  headers?: Readonly<Record<string, string | undefined>>
  /** Sent as JSON, with this type unless `headers` names one. */
  body?: unknown
  repeatable?: Repeatable
}

export interface JsonAnswer {
  status: number
  headers: Headers
  // The wire's shapes are the server's word: callers name the one they asked for.
  body: unknown
}

/** An answer whose body is still to be read. The watch must be ended. */
export interface OpenAnswer {
  response: Response
  watch: Watch
}

export type Transport = ReturnType<typeof createTransport>

export function createTransport(options: ConnectionOptions) {
  const { fetch: send = globalThis.fetch, prefix = '/api/v1', timeoutMs = 30_000, retry = {} } = options
  // An empty one, or one that is only a path, is of the page's own origin.
  if (!/^(https?:\/\/|\/|$)/.test(options.url)) {
    throw new TypeError('url must be the address of a server, such as http://127.0.0.1:3000')
  }
  const base = `${options.url.replace(/\/+$/, '')}${prefix}`

  /** One attempt. Resolves to any answer below 400. */
  async function attempt(request: HttpRequest): Promise<OpenAnswer> {
    const watch = createWatch(request.signal, request.timeoutMs ?? timeoutMs)
    try {
      const headers = await headersOf(request, options.key)
      const response = await watch.during(
        // Called free of any object: browsers refuse a fetch that has another `this`.
        send(`${base}${pathOf(request)}`, {
          method: request.method ?? 'GET',
          headers,
          signal: watch.signal,
          ...(request.body !== undefined && { body: JSON.stringify(request.body) }),
        }),
      )
      if (response.status >= 400) throw await watch.during(refusal(response))
      return { response, watch }
    } catch (error) {
      watch.end()
      throw error
    }
  }

  async function attemptJson(request: HttpRequest): Promise<JsonAnswer> {
    const { response, watch } = await attempt(request)
    try {
      const text = await watch.during(response.text())
      return { status: response.status, headers: response.headers, body: parsed(text, response) }
    } finally {
      watch.end()
    }
  }

  return {
    timeoutMs,
    /** A call with a JSON answer. @throws DualstoreClientError, or the reason of the signal */
    json: (request: HttpRequest): Promise<JsonAnswer> =>
      withRetries(() => attemptJson(request), request.repeatable ?? 'always', {
        ...retry,
        signal: request.signal,
      }),
    /** A call whose answer is streamed; what breaks after its headers came is not repeated. */
    open: (request: HttpRequest): Promise<OpenAnswer> =>
      withRetries(() => attempt(request), 'always', { ...retry, signal: request.signal }),
    /** The same in a single attempt. */
    openOnce: attempt,
  }
}

function pathOf({ path, query = {} }: HttpRequest): string {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) search.set(name, String(value))
  }
  const text = search.toString()
  return `${path.map((segment) => `/${encodeURIComponent(segment)}`).join('')}${text && `?${text}`}`
}

async function headersOf(
  { headers = {}, body }: HttpRequest,
  key: ConnectionOptions['key'],
): Promise<Record<string, string>> {
  const all: Record<string, string> = body === undefined ? {} : { 'content-type': 'application/json' }
  const token = typeof key === 'function' ? await key() : key
  if (token !== undefined) all.authorization = `Bearer ${token}`
  for (const [name, value] of Object.entries(headers)) if (value !== undefined) all[name] = value
  return all
}

function parsed(text: string, { status, url }: Response): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new DualstoreClientError('INVALID_ANSWER', `${url} did not answer with JSON`, { status, cause })
  }
}

import { catalogue, DualstoreError, type ErrorCode, type Fault } from '../../server/errors.js'

/** A running server as the commands reach it. */
export interface ServerAddress {
  /** Without a slash at the end. */
  url: string
  key: string | undefined
}

export interface HttpRequest {
  method?: string
  query?: object
  /** Sent as JSON. */
  body?: unknown
  /** Sent as NDJSON, read only as fast as the server takes it: Readable.toWeb() would read ahead without bound. */
  stream?: AsyncIterable<Uint8Array>
  signal?: AbortSignal
}

/** What a route answers as `data`. @throws as `request` */
export async function requestData<T>(server: ServerAddress, path: string, options?: HttpRequest): Promise<T> {
  return ((await (await request(server, path, options)).json()) as { data: T }).data
}

/**
 * One request to the server; resolves to any answer below 400.
 * @throws DualstoreError as the server gave it, or STORE_UNAVAILABLE when it cannot be reached.
 */
export async function request(
  server: ServerAddress,
  path: string,
  options: HttpRequest = {},
): Promise<Response> {
  const response = await send(server, path, options)
  if (response.status < 400) return response
  throw await refusal(response)
}

// A body that may have to be sent again, to where a redirect leads, is kept by fetch as a whole; only a request that
// follows none and belongs to no window streams in constant memory.
const UPLOAD = { duplex: 'half', redirect: 'error', window: null } as const

/** Like request, for answers whose status is their content. */
export async function send(
  server: ServerAddress,
  path: string,
  { method = 'GET', query = {}, body, stream, signal }: HttpRequest,
): Promise<Response> {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) search.set(name, String(value))
  }
  const headers: Record<string, string> = {}
  if (server.key !== undefined) headers.authorization = `Bearer ${server.key}`
  if (body !== undefined) headers['content-type'] = 'application/json'
  if (stream !== undefined) headers['content-type'] = 'application/x-ndjson'
  try {
    return await fetch(`${server.url}${path}${search.size > 0 ? `?${search}` : ''}`, {
      method,
      headers,
      ...(signal && { signal }),
      ...(body !== undefined && { body: JSON.stringify(body) }),
      ...(stream && { body: stream, ...UPLOAD }),
    })
  } catch (error) {
    throw unreachable(server.url, error)
  }
}

/** What a broken connection means for whoever waits at the command line. */
export function unreachable(url: string, error: unknown): DualstoreError {
  const cause = (error as { cause?: { code?: string; message?: string } }).cause
  const reason = cause?.code ?? cause?.message ?? (error as Error).message
  const message =
    cause?.code === 'UND_ERR_HEADERS_TIMEOUT'
      ? `${url} has not answered for five minutes; it may still be at work, so look before you repeat this`
      : `${url} cannot be reached or broke off: ${reason}`
  return new DualstoreError('STORE_UNAVAILABLE', message, { cause: error })
}

interface ErrorBody {
  error?: string
  message?: string
  code?: string
  details?: Fault[]
}

/** The error that an answer of 400 or above tells. */
export async function refusal(response: Response): Promise<DualstoreError> {
  return toldBy(response.status, parsed(await response.text().catch(() => '')))
}

/** The catalogue's error for what a server told. */
export function toldBy(status: number, body: ErrorBody & Record<string, unknown>): DualstoreError {
  const { error, message, code, details, ...extra } = body
  if (status === 401 || status === 403) {
    const told = message ?? error ?? 'it is not allowed'
    return new DualstoreError(
      status === 401 ? 'UNAUTHORIZED' : 'FORBIDDEN',
      `the server refuses the key: ${told}; give one with --key, --key-file or DUALSTORE_KEY`,
    )
  }
  const known = code !== undefined && code in catalogue ? (code as ErrorCode) : codeOf(status)
  const told = message ?? error ?? `the server answered ${status}`
  return new DualstoreError(known, told, { extra, ...(details && { details }), ...(error && { error }) })
}

function codeOf(status: number): ErrorCode {
  const codes = Object.keys(catalogue) as ErrorCode[]
  return codes.find((code) => catalogue[code].status === status) ?? 'INTERNAL'
}

function parsed(text: string): ErrorBody & Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null) return value as ErrorBody & Record<string, unknown>
  } catch {
    // Not ours, such as a proxy's page: its status is all there is to tell.
  }
  return {}
}

/** What a failed call tells. Decide by `code`: the server's codes are listed in docs/errors.md. */
export interface ErrorAbout {
  /** HTTP status; undefined when there was no answer. */
  status?: number | undefined
  /** Every single fault of a bad input: `{field: 'body.role', message: 'must be one of …'}`. */
  details?: readonly { field: string; message: string }[] | undefined
  /** Finds the request in the server's log. */
  requestId?: string | undefined
  /** True when the same call may succeed later without being changed. */
  retryable?: boolean
  /** Milliseconds the server asks to be left alone. */
  retryAfterMs?: number | undefined
  /** Further members of the answer, such as `position` of a strict write whose wait timed out. */
  extra?: Readonly<Record<string, unknown>>
  cause?: unknown
}

/**
 * The one class of errors the client throws itself. Beside the server's codes there are
 * - `NETWORK`: the server could not be reached, or the connection broke. A write may have been made.
 * - `TIMEOUT`: no answer within the time. A write may have been made.
 * - `INVALID_ANSWER`: whoever answered does not speak this protocol.
 * - `STREAM_RESET`: a stream's position is worthless and `onReset` is 'throw'.
 *
 * A call that was aborted rejects with its signal's reason instead.
 */
export class DualstoreClientError extends Error {
  override readonly name = 'DualstoreClientError'
  readonly code: string
  readonly status: number | undefined
  readonly details: readonly { field: string; message: string }[] | undefined
  readonly requestId: string | undefined
  readonly retryable: boolean
  readonly retryAfterMs: number | undefined
  readonly extra: Readonly<Record<string, unknown>>

  constructor(code: string, message: string, about: ErrorAbout = {}) {
    super(message, { cause: about.cause })
    this.code = code
    this.status = about.status
    this.details = about.details
    this.requestId = about.requestId
    this.retryable = about.retryable ?? false
    this.retryAfterMs = about.retryAfterMs
    this.extra = about.extra ?? {}
  }
}

/** Codes of answers that come without one: the legacy 401, and whatever stands between client and server. */
const codes: Readonly<Record<number, string>> = {
  401: 'UNAUTHORIZED',
  403: 'FORBIDDEN',
  404: 'NOT_FOUND',
  429: 'TOO_MANY_REQUESTS',
}

const RETRYABLE = new Set([429, 502, 503, 504])

/** The error that an answer of 400 or above tells. Reads its body. */
export async function refusal(response: Response): Promise<DualstoreClientError> {
  const { status, headers } = response
  const body = objectOf(await response.text().catch(() => ''))
  const { success: _, error, message, code, details, requestId, ...extra } = body
  const told = [message, error].find((text) => typeof text === 'string') as string | undefined
  return new DualstoreClientError(
    typeof code === 'string' ? code : (codes[status] ?? `HTTP_${status}`),
    told ?? `the server answered ${status}`,
    {
      status,
      retryable: RETRYABLE.has(status),
      retryAfterMs: retryAfterOf(headers.get('retry-after')),
      requestId: typeof requestId === 'string' ? requestId : (headers.get('x-request-id') ?? undefined),
      extra,
      ...(Array.isArray(details) && { details }),
    },
  )
}

/** Retry-After in milliseconds: it is a number of seconds or a date. */
function retryAfterOf(header: string | null): number | undefined {
  if (header === null) return undefined
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now()
  return Number.isNaN(ms) ? undefined : Math.max(0, ms)
}

function objectOf(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  } catch {
    // A proxy's page: its status is all there is to tell.
  }
  return {}
}

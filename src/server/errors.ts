/**
 * The catalogue of everything that can go wrong and be told to a caller. An error is thrown by its code;
 * HTTP status and the short text come from here, docs/errors.md is held to this table by a test.
 *
 * `retryable` says that the same request may succeed later without being changed.
 */
export const catalogue = {
  INVALID_REQUEST: { status: 400, error: 'Invalid request' },
  INVALID_JSON: { status: 400, error: 'Invalid JSON' },
  INVALID_FILTER: { status: 400, error: 'Invalid filter' },
  INVALID_CURSOR: { status: 400, error: 'Invalid cursor' },
  INVALID_PATCH: { status: 400, error: 'Invalid patch' },
  INVALID_DEFINITION: { status: 400, error: 'Invalid collection definition' },
  CONFIRMATION_REQUIRED: { status: 400, error: 'Confirmation required' },
  UNAUTHORIZED: { status: 401, error: 'Unauthorized' },
  FORBIDDEN: { status: 403, error: 'Forbidden' },
  NOT_FOUND: { status: 404, error: 'Not found' },
  COLLECTION_NOT_FOUND: { status: 404, error: 'Collection not found' },
  REQUEST_TIMEOUT: { status: 408, error: 'Request timeout' },
  ALREADY_EXISTS: { status: 409, error: 'Already exists' },
  CONFLICT: { status: 409, error: 'Conflict' },
  SCHEMA_MISFIT: { status: 409, error: 'Stored documents do not fit' },
  POSITION_GONE: { status: 410, error: 'Position gone' },
  PRECONDITION_FAILED: { status: 412, error: 'Precondition failed' },
  PAYLOAD_TOO_LARGE: { status: 413, error: 'Payload too large' },
  URI_TOO_LONG: { status: 414, error: 'URI too long' },
  UNSUPPORTED_MEDIA_TYPE: { status: 415, error: 'Unsupported media type' },
  IDEMPOTENCY_KEY_REUSED: { status: 422, error: 'Idempotency key reused' },
  TOO_MANY_REQUESTS: { status: 429, error: 'Too many requests' },
  HEADERS_TOO_LARGE: { status: 431, error: 'Request header fields too large' },
  INTERNAL: { status: 500, error: 'Internal server error' },
  STORE_UNAVAILABLE: { status: 503, error: 'Service unavailable', retryable: true },
  MIRROR_UNAVAILABLE: { status: 503, error: 'Mirror unavailable', retryable: true },
  OVERLOADED: { status: 503, error: 'Service overloaded', retryable: true },
  SHUTTING_DOWN: { status: 503, error: 'Shutting down', retryable: true },
  ISSUER_UNAVAILABLE: { status: 503, error: 'Issuer unavailable', retryable: true },
  WAIT_TIMEOUT: { status: 504, error: 'Timed out waiting', retryable: true },
  // Command line and start-up only: these never become an HTTP answer.
  INVALID_CONFIG: { status: 500, error: 'Invalid configuration' },
  SCHEMA_OUTDATED: { status: 500, error: 'Database is of an older version' },
  SCHEMA_TOO_NEW: { status: 500, error: 'Database is of a newer version' },
  INVALID_ARCHIVE: { status: 500, error: 'Invalid archive' },
  EMBEDDED_STORE: { status: 500, error: 'Embedded store could not start' },
  SOURCE_UNAVAILABLE: { status: 503, error: 'Source of the migration unavailable', retryable: true },
  PROVIDER_UNAVAILABLE: { status: 503, error: 'Provider unavailable', retryable: true },
} as const satisfies Record<string, { status: number; error: string; retryable?: boolean }>

export type ErrorCode = keyof typeof catalogue

/** One thing that is wrong with an input: where (`query.limit`, `body.role`), and what would be right. */
export interface Fault {
  field: string
  message: string
}

export interface ErrorOptions {
  /** Every single fault of a bad input. */
  details?: readonly Fault[]
  /** Replaces the catalogue's short text; only for the texts legacy clients compare, such as "Agent task not found". */
  error?: string
  /** Further members of the answer, such as the position of a write whose wait timed out. */
  extra?: Readonly<Record<string, unknown>>
  cause?: unknown
}

/** The only error class that may reach a caller with its own words. Anything else is answered as INTERNAL. */
export class DualstoreError extends Error {
  override readonly name = 'DualstoreError'
  readonly code: ErrorCode
  readonly status: number
  readonly error: string
  readonly details: readonly Fault[] | undefined
  readonly extra: Readonly<Record<string, unknown>>

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, { cause: options.cause })
    this.code = code
    this.status = catalogue[code].status
    this.error = options.error ?? catalogue[code].error
    this.details = options.details
    this.extra = options.extra ?? {}
  }

  /** True when repeating the same request later may succeed. */
  get retryable(): boolean {
    return 'retryable' in catalogue[this.code]
  }
}

/** A 400 that names one field and what it should be. */
export function invalid(field: string, message: string, code: ErrorCode = 'INVALID_REQUEST'): DualstoreError {
  return new DualstoreError(code, `${field} ${message}`, { details: [{ field, message }] })
}

/** A 400 that names several fields at once. */
export function invalidAll(details: readonly Fault[], code: ErrorCode = 'INVALID_REQUEST'): DualstoreError {
  const message = details.map((fault) => `${fault.field} ${fault.message}`).join('; ')
  return new DualstoreError(code, message, { details })
}

import { DualstoreError } from '../errors.js'

export const UNIQUE_VIOLATION = '23505'
/** What a statement ends with that is past its time limit. */
export const QUERY_CANCELED = '57014'
/** A replica, or a primary that was demoted, or a session that is read-only by default. */
export const READ_ONLY = '25006'
export const TOO_MANY_CONNECTIONS = '53300'

/**
 * What to do about each SQLSTATE, in one table. Decisions branch on these codes, never on message text.
 * Codes: PostgreSQL documentation, appendix A.
 *
 * - `retry`: nothing was committed, the same transaction may be run again at once.
 * - `unavailable`: PostgreSQL cannot serve now; the caller gets 503 and may come back.
 */
const reactions: Readonly<Record<string, 'retry' | 'unavailable'>> = {
  '40001': 'retry', // serialization_failure
  '40P01': 'retry', // deadlock_detected
  '55P03': 'retry', // lock_not_available
  '25006': 'unavailable', // read_only_sql_transaction: a replica, or a primary that was demoted
  '53100': 'unavailable', // disk_full
  '53200': 'unavailable', // out_of_memory
  '53300': 'unavailable', // too_many_connections
  '57014': 'unavailable', // query_canceled: statement_timeout
  '57P01': 'unavailable', // admin_shutdown
  '57P02': 'unavailable', // crash_shutdown
  '57P03': 'unavailable', // cannot_connect_now
  '57P05': 'unavailable', // idle_session_timeout
  '25P03': 'unavailable', // idle_in_transaction_session_timeout
  '58030': 'unavailable', // io_error
}

/** The server is going, coming, or has ended this connection. */
const awayCodes = new Set(['57P01', '57P02', '57P03'])

/** Node's codes of a connection that was never made or is gone. */
const connectionCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOENT',
])

/** Class 08 is every kind of connection exception, class 57 and 53 beyond the table are operator or resource states. */
const unavailableClasses = new Set(['08', '53', '57'])

// pg raises these without any code; they are its only errors of that kind.
const codelessConnectionErrors = [
  'Connection terminated',
  'timeout exceeded when trying to connect',
  'timeout expired',
  'Client has encountered a connection error',
  'Cannot use a pool after calling end',
  'Client was closed and is not queryable',
  'Query read timeout',
]

/** The SQLSTATE or Node error code of whatever was thrown, looking through our own wrapper. */
export function codeOf(error: unknown): string | undefined {
  if (error instanceof DualstoreError) return codeOf(error.cause)
  if (typeof error === 'object' && error !== null && 'code' in error) return String(error.code)
  return undefined
}

/** True when the transaction that raised this is certain not to have been committed and may be run again. */
export function isRetryable(error: unknown): boolean {
  const code = codeOf(error)
  return code !== undefined && reactions[code] === 'retry'
}

/** True when PostgreSQL itself cannot be reached or cannot serve, as opposed to having refused this statement. */
export function isUnavailable(error: unknown): boolean {
  if (error instanceof DualstoreError) return error.code === 'STORE_UNAVAILABLE'
  const code = codeOf(error)
  if (code !== undefined) {
    return (
      reactions[code] === 'unavailable' ||
      connectionCodes.has(code) ||
      unavailableClasses.has(code.slice(0, 2))
    )
  }
  return error instanceof Error && codelessConnectionErrors.some((text) => error.message.startsWith(text))
}

const CANNOT_SERVE = 'PostgreSQL cannot serve this request now; try again later'
const messages: Readonly<Record<string, string>> = {
  [QUERY_CANCELED]: 'PostgreSQL took too long; a narrower filter, an index or count=none may help',
  [READ_ONLY]: 'PostgreSQL takes no writes now; try again later',
  [TOO_MANY_CONNECTIONS]: 'PostgreSQL has no connection left; try again later',
}

/** True when the connection broke or could not be made: what may mean that PostgreSQL is away altogether. */
export function isAway(error: unknown): boolean {
  const cause = error instanceof DualstoreError ? error.cause : error
  const code = codeOf(cause)
  if (code === undefined) return isUnavailable(cause)
  return awayCodes.has(code) || connectionCodes.has(code) || code.startsWith('08')
}

/** Wraps an outage as STORE_UNAVAILABLE (503); leaves every other error as it is. */
export function storeError(error: unknown): unknown {
  if (error instanceof DualstoreError || !isUnavailable(error)) return error
  return new DualstoreError('STORE_UNAVAILABLE', messages[codeOf(error) ?? ''] ?? CANNOT_SERVE, {
    cause: error,
  })
}

import {
  MongoBulkWriteError,
  MongoError,
  MongoInvalidArgumentError,
  MongoServerError,
  type WriteError,
} from 'mongodb'
import { DualstoreError } from '../errors.js'
import { messages, troubleOf } from './trouble.js'

/**
 * Server error codes (src/mongo/base/error_codes.yml) that say nothing about the document at hand. A server reports
 * some of them for single writes of a bulk; trying again later may succeed.
 */
const transientCodes: ReadonlySet<number> = new Set([
  6, // HostUnreachable
  7, // HostNotFound
  13, // Unauthorized
  18, // AuthenticationFailed
  24, // LockTimeout
  46, // LockBusy
  50, // MaxTimeMSExpired
  63, // StaleShardVersion
  64, // WriteConcernTimeout
  79, // UnknownReplWriteConcern
  89, // NetworkTimeout
  91, // ShutdownInProgress
  100, // UnsatisfiableWriteConcern
  112, // WriteConflict
  133, // FailedToSatisfyReadPreference
  134, // ReadConcernMajorityNotAvailableYet
  189, // PrimarySteppedDown
  202, // NetworkInterfaceExceededTimeLimit
  262, // ExceededTimeLimit
  391, // ReauthenticationRequired
  9001, // SocketException
  10058, // LegacyNotPrimary
  10107, // NotWritablePrimary
  11600, // InterruptedAtShutdown
  11601, // Interrupted
  11602, // InterruptedDueToReplStateChange
  13388, // StaleConfig
  13435, // NotPrimaryNoSecondaryOk
  13436, // NotPrimaryOrSecondary
  14031, // OutOfDiskSpace
])

/** Codes with which a server refuses a whole command because of one document in it. */
const contentCodes: ReadonlySet<number> = new Set([
  15, // Overflow: nested too deep
  22, // InvalidBSON
  52, // DollarPrefixedFieldName
  57, // DottedFieldName
  10334, // BSONObjectTooLarge
  17280, // KeyTooLong
  17419, // the resulting document is too large
  17420, // the document to upsert is too large
])

export const DUPLICATE_KEY = 11000

/** MIRROR_UNAVAILABLE with what happened as its cause. */
export function unavailable(message: string, cause?: unknown): DualstoreError {
  return new DualstoreError('MIRROR_UNAVAILABLE', message, { cause })
}

/**
 * Wraps whatever the driver or the server raised about anything but a single document as MIRROR_UNAVAILABLE: no
 * connection, no answer in time, no primary, no right to do it, a durability that was not confirmed. Errors that
 * are neither the driver's nor the network's are our own faults and stay as they are.
 */
export function mongoError(error: unknown): unknown {
  if (!(error instanceof MongoError) && !isSystemError(error)) return error
  const cause = rootOf(error)
  return unavailable(messages[troubleOf(cause)], cause)
}

/** The refusals of single documents in a failed bulk; undefined when the bulk failed for any other reason. */
export function refusedWrites(error: unknown): WriteError[] | undefined {
  if (!(error instanceof MongoBulkWriteError)) return undefined
  const refused = writeErrorsOf(error)
  const unconfirmed = error.result.getWriteConcernError() !== undefined
  if (unconfirmed || refused.length === 0 || refused.some((one) => transientCodes.has(one.code)))
    return undefined
  return refused
}

/**
 * True when a whole bulk was refused because of some document in it: the driver does not even send one that is
 * larger than the server's limit, and a server may refuse the command that contains one.
 */
export function isAboutContent(error: unknown): error is Error {
  const root = rootOf(error)
  if (root instanceof MongoInvalidArgumentError) return true
  if (!(root instanceof MongoServerError) || writeErrorsOf(root).length > 0) return false
  return contentCodes.has(Number(root.code))
}

function writeErrorsOf(error: unknown): WriteError[] {
  return error instanceof MongoBulkWriteError ? [error.writeErrors].flat() : []
}

/**
 * What the driver caught inside a bulk. It wraps every error, of the network too, as one of the bulk; only a refusal
 * of the whole command by the server leaves no error inside, and stands with its code in the wrapper.
 */
function rootOf(error: unknown): unknown {
  const response: unknown = error instanceof MongoBulkWriteError ? error.errorResponse : undefined
  return response instanceof Error ? response : error
}

/** True when the server answered and will not do it, today or later. */
export function isRefusal(error: unknown): boolean {
  return error instanceof MongoServerError && !transientCodes.has(Number(error.code))
}

/** Node's own network and DNS errors, which the driver passes on bare while it resolves a mongodb+srv name. */
function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && 'syscall' in error
}

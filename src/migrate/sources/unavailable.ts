import { MongoError, MongoServerError, MongoServerSelectionError } from 'mongodb'
import { DualstoreError } from '../../server/errors.js'

/** SOURCE_UNAVAILABLE with a reason. */
export function unavailable(name: string, reason: string, cause?: unknown): DualstoreError {
  return new DualstoreError('SOURCE_UNAVAILABLE', `the source ${name} cannot be read: ${reason}`, { cause })
}

/** What the driver or the network raised as SOURCE_UNAVAILABLE; our own faults stay as they are. */
export function mongoSourceError(name: string, error: unknown): unknown {
  if (error instanceof MongoError || (error instanceof Error && 'syscall' in error)) {
    return unavailable(name, reasonOf(error), error)
  }
  return error
}

/** Never the driver's own words, which may quote the connection string. */
function reasonOf(error: Error & { code?: unknown }): string {
  if (error instanceof MongoServerError) return `it answers ${error.codeName ?? `error ${error.code}`}`
  if (error instanceof MongoServerSelectionError) return 'no server answers'
  return typeof error.code === 'string' ? error.code : error.name
}

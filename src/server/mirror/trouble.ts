import { DualstoreError } from '../errors.js'

/** What kind of trouble a mirror has, for operators: docs/operations.md says what to do about each. */
export const troubles = ['away', 'slow', 'read_only', 'refused', 'full', 'other'] as const
export type Trouble = (typeof troubles)[number]

/** Server error codes (src/mongo/base/error_codes.yml) by what they mean for the mirror as a whole. */
const codes: Readonly<Record<number, Trouble>> = {
  6: 'away', // HostUnreachable
  7: 'away', // HostNotFound
  91: 'away', // ShutdownInProgress
  9001: 'away', // SocketException
  11600: 'away', // InterruptedAtShutdown
  24: 'slow', // LockTimeout
  50: 'slow', // MaxTimeMSExpired
  64: 'slow', // WriteConcernTimeout
  89: 'slow', // NetworkTimeout
  202: 'slow', // NetworkInterfaceExceededTimeLimit
  262: 'slow', // ExceededTimeLimit
  100: 'read_only', // UnsatisfiableWriteConcern
  133: 'read_only', // FailedToSatisfyReadPreference
  189: 'read_only', // PrimarySteppedDown
  10058: 'read_only', // LegacyNotPrimary
  10107: 'read_only', // NotWritablePrimary
  11602: 'read_only', // InterruptedDueToReplStateChange
  13435: 'read_only', // NotPrimaryNoSecondaryOk
  13436: 'read_only', // NotPrimaryOrSecondary
  13: 'refused', // Unauthorized
  18: 'refused', // AuthenticationFailed
  391: 'refused', // ReauthenticationRequired
  8000: 'refused', // AtlasError: how Atlas refuses credentials
  14031: 'full', // OutOfDiskSpace
}

/** Errors of the driver and of Node that have no such code. */
const names: Readonly<Record<string, Trouble>> = {
  MongoNetworkTimeoutError: 'slow',
  MongoWaitQueueTimeoutError: 'slow',
  MongoOperationTimeoutError: 'slow',
  MongoNetworkError: 'away',
  MongoPoolClearedError: 'away',
  PoolClearedOnNetworkError: 'away',
  MongoServerSelectionError: 'away',
  MongoTopologyClosedError: 'away',
}

/** What is told with MIRROR_UNAVAILABLE; names nothing that only an operator should know. */
export const messages: Readonly<Record<Trouble, string>> = {
  away: 'MongoDB cannot be reached; try again later',
  slow: 'MongoDB does not answer in time; try again later',
  read_only: 'MongoDB takes no writes now; try again later',
  refused: 'MongoDB refuses this server; an operator must give it rights',
  full: 'MongoDB has no disk space left; an operator must make room',
  other: 'MongoDB cannot serve this request now; try again later',
}

/** The kind of trouble that an error of the driver, or our own error around it, tells of. */
export function troubleOf(error: unknown): Trouble {
  if (error instanceof DualstoreError) return troubleOf(error.cause)
  if (!(error instanceof Error)) return 'other'
  const { code, name, reason } = error as Error & { code?: unknown; reason?: { type?: string } }
  const known = codes[Number(code)] ?? names[name]
  // A replica set whose members answer, none of them as its primary.
  if (known === 'away' && reason?.type === 'ReplicaSetNoPrimary') return 'read_only'
  if (known !== undefined) return known
  if (code === 'ENOSPC') return 'full'
  return 'syscall' in error ? 'away' : 'other'
}

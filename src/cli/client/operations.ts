import type { JobAnswer, ParkedAnswer, ParkedDetailAnswer } from '../../server/schemas/jobs.js'

/** What a verification or repair is asked for. */
export interface AuditRequest {
  collections?: string[]
  rate?: number
  sample?: number
  apply?: boolean
}

export interface ParkedKey {
  collection: string
  id: string
}

/**
 * Jobs and parked documents as the commands use them. Two implementations: the services in this process on the stores
 * themselves, and a running server over HTTP. Both reject with the catalogue's errors.
 */
export interface OperationsClient {
  readonly where: string
  /** A job that nobody else runs is run in this process. */
  start(kind: JobAnswer['kind'], request: AuditRequest): Promise<JobAnswer>
  job(id: string): Promise<JobAnswer>
  jobs(filter: { kind?: JobAnswer['kind']; limit: number }): Promise<JobAnswer[]>
  cancel(id: string): Promise<JobAnswer>
  /** What a job has found, as NDJSON. */
  findings(id: string): AsyncIterable<Uint8Array | string>
  parked(page: { collection?: string; after?: string; limit: number }): Promise<ParkedAnswer[]>
  showParked(key: ParkedKey): Promise<ParkedDetailAnswer>
  retryParked(key: ParkedKey): Promise<{ outcome: 'applied' | 'parked'; reason?: string }>
  skipParked(key: ParkedKey): Promise<void>
  /** Names of the collections. */
  collections(): Promise<string[]>
  /** Other programs' documents in a collection of the mirror, as NDJSON. */
  foreign(collection: string): AsyncIterable<Uint8Array | string>
  /** Deletes those that still are as these lines say; resolves to how many. */
  removeForeign(collection: string, lines: readonly string[]): Promise<number>
  close(): Promise<void>
}

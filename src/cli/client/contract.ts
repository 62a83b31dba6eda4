import type { Readable } from 'node:stream'
import type { ChangeEvent, ControlEvent } from '../../client/index.js'
import type { CollectionInput } from '../../server/schemas/collection.js'
import type { SelectionQuery } from '../../server/schemas/wire.js'
import type { ChangeOptions, CollectionAnswer } from '../../server/services/collections.js'
import type { Misfits } from '../../server/services/misfits.js'
import type { ImportReport, OnConflict } from '../../server/services/transfer.js'

/** What changing a definition led to. */
export interface Changed {
  collection: CollectionAnswer
  misfits: Misfits
}

/** Which changes, and from where on. */
export interface FollowRequest {
  /** All collections, future ones too, when it is undefined. */
  collection: string | undefined
  /** From now on when it is undefined. */
  since: string | undefined
  selection: Pick<SelectionQuery, 'filter' | 'session_id'>
  /** Ends the events, without an error. */
  signal: AbortSignal
  /** Told when the connection is gone, with the reason; it is made again. */
  onTrouble(reason: string): void
}

/** Changes, and what tells the position meanwhile. A reset is followed by the changes behind its position. */
export type Followed = ChangeEvent<unknown> | ControlEvent

/**
 * Collections and their documents as the commands use them. Two implementations: the services in this process on the
 * stores themselves, and a running server over HTTP. Both reject with the catalogue's errors.
 */
export interface CollectionsClient {
  /** Where it works, to finish "… of": "the local stores", "http://host:3000". */
  readonly where: string
  /** `documents` is an estimate. */
  list(): Promise<CollectionAnswer[]>
  /** `documents` is counted. */
  show(name: string): Promise<CollectionAnswer>
  create(input: CollectionInput): Promise<CollectionAnswer>
  replace(name: string, input: CollectionInput, options: ChangeOptions): Promise<Changed>
  modify(name: string, members: Partial<CollectionInput>, options: ChangeOptions): Promise<Changed>
  /** Drops the collection; the caller has made sure that this is wanted. Resolves to the number of documents deleted. */
  drop(name: string): Promise<number>
  count(name: string): Promise<number>
  /** Imports NDJSON as fast as it can be written. A source that ends early is an import of what it held. */
  importNdjson(name: string, source: Readable, onConflict: OnConflict): Promise<ImportReport>
  /** NDJSON by ascending id, read only as fast as it is taken. */
  exportNdjson(name: string, selection: SelectionQuery): Promise<Readable>
  /** Changes as they are committed, until the signal is aborted. */
  follow(request: FollowRequest): AsyncIterable<Followed>
  /** Whether documents written through this client reach the mirror now, without anything else being started. */
  mirrorFollows(): Promise<boolean>
  close(): Promise<void>
}

import type { TakenDocument } from '../../server/services/migrations.js'

/** One document as a source gave it: BSON types from MongoDB, JSON from HTTP. */
export interface SourceDocument {
  /** What names it in its source for good: Mongo's `_id` as canonical extended JSON, or a hash of its content. */
  sourceId: string
  document: { [field: string]: unknown }
  /** Why the document is not as it is stored, when the source could not read it so: it cannot be taken then. */
  unreadable?: string
}

/** Documents in a row. They may be decoded anew each time they are gone through, so that few are in memory at once. */
export interface SourceDocuments extends Iterable<SourceDocument> {
  readonly length: number
}

/** Documents by what names them in their source. */
export function byName(documents: SourceDocuments): ReadonlyMap<string, SourceDocument> {
  const named = new Map<string, SourceDocument>()
  for (const document of documents) named.set(document.sourceId, document)
  return named
}

/** Documents in the source's order, with the place behind them. */
export interface SourceBatch {
  documents: SourceDocuments
  /** From where `read` or `follow` goes on behind this batch; JSON text that only the source understands. */
  checkpoint: string
}

export interface SourceCollection {
  /** Name of the collection in dualstore. */
  collection: string
  /** Documents there, as far as the source knows without reading them all. */
  documents: number
}

export interface FollowedBatch extends SourceBatch {
  collection: string
  /** Documents that the source is known to hold behind this batch; 0 when nothing is known to be waiting. */
  behind: number
  /** Documents that were deleted in the source: told, and not carried over (the legacy server never deletes). */
  deleted: number
  /**
   * With this batch everything was given that had been written to the collection by this time, of performance.now();
   * null where the source cannot tell it yet.
   */
  upTo: number | null
}

export interface FollowOptions {
  collections: readonly string[]
  /** Per collection where to go on; from `mark` or from an earlier batch. */
  checkpoints: ReadonlyMap<string, string>
  /** Milliseconds between two looks, where the source has no change stream. */
  pollMs: number
  signal: AbortSignal
}

/** Where documents come from. Reading changes nothing there. */
export interface Source {
  kind: 'mongo' | 'http'
  /** For people and reports: without user, password or token. */
  name: string
  /** The same for the same source, whatever the credentials: names the migration. */
  identity: string
  /** What it cannot give, in sentences for an operator; empty for a complete source. */
  losses(): Promise<readonly string[]>
  /** Those of the asked collections that are there. @throws SOURCE_UNAVAILABLE */
  collections(names: readonly string[]): Promise<SourceCollection[]>
  /** The place from which `follow` misses nothing that is written from now on; taken before the first read. */
  mark(collection: string): Promise<string>
  /** All documents behind the checkpoint, in an order that goes on after an interruption, in bounded batches. */
  read(collection: string, checkpoint: string | null, signal: AbortSignal): AsyncIterable<SourceBatch>
  /** What is written from the checkpoints on, until the signal comes; an empty batch tells that nothing waits. */
  follow(options: FollowOptions): AsyncIterable<FollowedBatch>
  close(): Promise<void>
}

/** Kinds of what is not as the contract says (legacy contract, sections 8 and 9), for counts and examples. */
export type Oddity =
  | 'missing_id'
  | 'other_id_type'
  | 'missing_text'
  | 'empty_text'
  | 'other_field_name'
  | 'raw_event'
  | 'value_from_text'
  | 'default_used'
  | 'timestamp_as_number'
  | 'timestamp_as_date'
  | 'timestamp_under_other_key'
  | 'timestamp_missing'
  | 'extra_field'
  | 'value_converted'
  | 'written_by_dualstore'

/** What a legacy document means. */
export type Understood = TakenDocument<Oddity>

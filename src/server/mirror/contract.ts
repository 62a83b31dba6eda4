import type { CollectionDefinition } from '../schemas/collection.js'
import type { Item, Json } from '../schemas/item.js'

/**
 * A document in the legacy shape, as other programs read it from MongoDB (legacy contract, section 8).
 * `dualstore` is ours: the position and version it mirrors, and the whole item as JSON text when the legacy fields
 * alone cannot give it back.
 */
export interface LegacyDocument {
  _id: string
  id: string
  text: string
  /** The item's created_at. */
  timestamp: string
  metadata: { [field: string]: Json }
  dualstore: { seq: number; version: number; item?: string }
}

/** What a mirror is asked to hold for one document from log position `seq` on. */
export interface MirrorChange {
  definition: CollectionDefinition
  id: string
  seq: number
  version: number
  /** The document now; null when it is deleted. */
  item: Item | null
  /**
   * When it is given: only over a document that stands at exactly this position, be it a later one. For documents
   * that another log has put ahead of this one.
   */
  over?: number
}

/** A change that this mirror can never take as it is; the follower parks its document (I6). */
export interface Rejection {
  change: MirrorChange
  reason: string
}

/** A document by its id, and the log position it stands at in a mirror. */
export interface Mark {
  id: string
  seq: number
}

/** Ids from the first to the last, both included, by code point. */
export interface IdSpan {
  first: string
  last: string
}

/** A document read back from a mirror. */
export interface MirroredDocument {
  item: Item
  seq: number
  version: number
}

/** A document as it lies in a mirror, whoever wrote it and whatever shape it is in. */
export type RawDocument = { readonly [field: string]: unknown }

export interface RawEntry {
  id: string
  document: RawDocument
}

/** A document that dualstore did not write. */
export interface ForeignDocument {
  /** Its `_id` when that is text: it may then stand in the place of a document of ours. */
  id: string | undefined
  /** The document, or its `_id` alone, as canonical extended JSON, which keeps every type. */
  line: string
}

/** Ids behind `after` up to and including `upTo`; without them from the beginning, or to the end. */
export interface IdRange {
  after: string | undefined
  upTo: string | undefined
}

/** What an operator wants to know about a mirror. */
export interface Examination {
  /** Its clock, epoch milliseconds. */
  clock: number
  /** Indexes that legacy readers need and that are not there, such as "duck_agent_tasks.dualstore_id". */
  missingIndexes: string[]
}

/**
 * A second store that holds every document in the legacy shape. Two implementations: mongo.ts and embedded.ts.
 * Every method rejects with MIRROR_UNAVAILABLE when the store cannot be reached or does not answer in time.
 */
export interface Mirror {
  readonly kind: 'mongodb' | 'embedded'
  /** Makes the collection and the indexes that legacy readers need. Repeating it is harmless. */
  prepare(definition: CollectionDefinition): Promise<void>
  /**
   * Makes the changes durable, in any order, each document at most once in a call, and returns those it can never
   * take. A document that already stands at this position or a later one is left alone (I4), unless `over` says
   * otherwise, so repeating a call is harmless. After a rejection by MIRROR_UNAVAILABLE any part may have been applied.
   */
  apply(changes: readonly MirrorChange[]): Promise<Rejection[]>
  get(definition: CollectionDefinition, id: string): Promise<MirroredDocument | undefined>
  /** Every document that dualstore wrote, by ascending id (code points), starting behind `after`. Constant memory. */
  scan(definition: CollectionDefinition, after?: string): AsyncIterable<MirroredDocument>
  /** The same without what the documents hold. */
  marks(definition: CollectionDefinition, after?: string): AsyncIterable<Mark>
  /** Those with an id from `first` to `last` that stand behind `seq`, in any order: none, unless another log wrote some. */
  marksAhead(definition: CollectionDefinition, span: IdSpan, seq: number): Promise<Mark[]>
  /** The newest raw documents by `timestamp`, for /debug/dualstore-data. */
  recent(definition: CollectionDefinition, limit: number): Promise<LegacyDocument[]>
  /** Number of documents that dualstore wrote. */
  count(definition: CollectionDefinition): Promise<number>
  /** Removes what is left of a dropped collection, documents of other programs excepted. */
  drop(definition: CollectionDefinition): Promise<void>
  /**
   * Every document whose `_id` is text, whoever wrote it, by ascending id (code points), in pages of bounded size.
   * For verifying: a document may be in any shape.
   */
  raw(definition: CollectionDefinition, range: IdRange): AsyncIterable<RawEntry[]>
  /** Those of these documents that are there, by id. */
  rawMany(definition: CollectionDefinition, ids: readonly string[]): Promise<Map<string, RawDocument>>
  /**
   * Makes a document count as older than every change, when its position is still `seq`, so that a position that is
   * wrong does not keep the right document out. Its legacy fields stay until a change is applied.
   */
  forgetPosition(definition: CollectionDefinition, id: string, seq: unknown): Promise<void>
  /** Documents that dualstore did not write, whole or their ids alone. Constant memory. */
  foreign(definition: CollectionDefinition, what: 'whole' | 'ids'): AsyncIterable<ForeignDocument>
  /** Deletes those foreign documents that still are exactly as these whole lines say; returns how many. */
  removeForeign(definition: CollectionDefinition, lines: readonly string[]): Promise<number>
  /** Rejects with MIRROR_UNAVAILABLE when the store does not answer. */
  ping(): Promise<void>
  /** Looks at the store for an operator; changes nothing. */
  examine(definitions: readonly CollectionDefinition[]): Promise<Examination>
  close(): Promise<void>
}

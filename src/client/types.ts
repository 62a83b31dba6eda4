import type { Item, Json } from '../server/schemas/item.js'

export type { Item, Json }

/** What the server adds to every document. Times are ISO 8601 UTC with milliseconds. */
export interface ServerFields {
  id: string
  created_at: string
  updated_at: string
}

/** A document without what only the server sets. Keeps the names of the fields, an index signature beside them or not. */
export type Fields<T> = T extends unknown ? { [K in keyof T as Exclude<K, keyof ServerFields>]: T[K] } : never

/** What is sent to create a document; the server makes an id unless one is given. */
export type NewItem<T> = Fields<T> & { id?: string }

/** RFC 7396: members replace, null removes. */
export type MergePatch<T> = { [K in keyof Fields<T>]?: Fields<T>[K] | null | object }

/** RFC 6902. */
export type JsonPatch = readonly {
  op: 'add' | 'remove' | 'replace' | 'move' | 'copy' | 'test'
  path: string
  from?: string
  value?: unknown
}[]

/** In the language of docs/filter.md: `{status: {$in: ['pending', 'running']}}`. */
export type Filter = Readonly<Record<string, unknown>>

/** Which documents. */
export interface Selection {
  filter?: Filter | undefined
  sessionId?: string | undefined
  /** Created at or after this time. */
  createdAfter?: Date | string | undefined
  /** Created at or before this time. */
  createdBefore?: Date | string | undefined
}

/** Selection by full text too, which streams do not know. */
export interface SearchSelection extends Selection {
  /** Full text of every string, as a web search: `error -timeout "exact words"`. */
  q?: string | undefined
}

export interface ListQuery extends SearchSelection {
  /** Documents in a page: 1 to 1,000, 50 by default. */
  limit?: number | undefined
  offset?: number | undefined
  /** Any field; `created_at` by default. */
  sortBy?: string | undefined
  /** `desc` by default. */
  sortOrder?: 'asc' | 'desc' | undefined
  /** `nextCursor` of the page before. */
  cursor?: string | undefined
  /** How `total` is found; `exact` by default. */
  count?: 'exact' | 'estimated' | 'none' | undefined
  /** Only these fields; `id` always comes. The type of the items does not follow. */
  fields?: readonly string[] | undefined
}

/** One page of a list. */
export interface Page<T> {
  items: T[]
  /** undefined with `count: 'none'`. */
  total: number | undefined
  hasMore: boolean
  /** undefined at the end. */
  nextCursor: string | undefined
}

/** A document with the version its ETag tells. */
export interface Versioned<T> {
  item: T
  version: number
}

/** A document as it was written. */
export interface Written<T> extends Versioned<T> {
  /** The write's place in the change log, for `waitFor`; undefined when nothing had to be written. */
  position: string | undefined
  /** True when it was not there before. */
  created: boolean
}

/** What a deletion found. */
export interface Deleted {
  /** False when there was no such document, or an attempt whose answer was lost has deleted it. */
  deleted: boolean
  position: string | undefined
}

/** One operation of a batch; with `ifVersion` only when the stored version is this one. */
export type BatchOperation<T> =
  | { op: 'create'; item: NewItem<T> }
  | { op: 'put'; id: string; item: NewItem<T>; ifVersion?: number | undefined }
  | { op: 'patch'; id: string; patch: MergePatch<T>; ifVersion?: number | undefined }
  | { op: 'delete'; id: string; ifVersion?: number | undefined }

/** What became of one operation, in the place of the operation. */
export type BatchResult<T> =
  | { ok: true; status: number; id: string; version?: number; item?: T }
  | {
      ok: false
      status: number
      code: string
      message: string
      details?: { field: string; message: string }[]
    }

/** A change, or with `snapshot` a document that a snapshot holds. */
export interface ChangeEvent<T, Name extends string = string> {
  type: 'insert' | 'update' | 'delete'
  collection: Name
  /** After the change; of a delete, as it last matched. */
  item: T
  version: number
  /** When it was written; ISO 8601. */
  timestamp: string
  /** Undefined until a snapshot is complete: a snapshot that breaks off begins anew. */
  position: string | undefined
  snapshot: boolean
}

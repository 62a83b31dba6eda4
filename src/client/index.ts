export type { CreateOptions, PutOptions, ReadOptions, WriteOptions } from './call-options.js'
export type { ChangesPage, ChangesQuery } from './changes.js'
export { type Client, type ClientOptions, createClient } from './client.js'
export type { Collection } from './collection.js'
export { DualstoreClientError } from './errors.js'
export type { CallOptions } from './http.js'
export type { RetryOptions } from './retry.js'
export type {
  ControlEvent,
  EventStream,
  PositionStore,
  StreamEvent,
  StreamOptions,
  StreamState,
} from './stream-options.js'
export type {
  BatchOperation,
  BatchResult,
  ChangeEvent,
  Deleted,
  Filter,
  Item,
  Json,
  JsonPatch,
  ListQuery,
  MergePatch,
  NewItem,
  Page,
  SearchSelection,
  Selection,
  ServerFields,
  Versioned,
  Written,
} from './types.js'

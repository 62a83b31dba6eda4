import { type Collection, createCollection } from './collection.js'
import { type ConnectionOptions, createTransport } from './http.js'
import { createStream } from './stream.js'
import type { EventStream, StreamEvent, StreamOptions } from './stream-options.js'
import type { Item, ServerFields } from './types.js'

export type ClientOptions = ConnectionOptions

/**
 * A client for one server. `Collections` maps names to items, as `dualstore types` writes it; without it every name is
 * allowed and an item holds any JSON.
 */
export interface Client<Collections extends object = Record<string, Item>> {
  /** The documents of a collection; nothing is asked of the server yet. */
  collection<Name extends keyof Collections & string>(name: Name): Collection<Collections[Name]>
  /** The same with a type of one's own for the items: `client.collection<Note>('notes')`. */
  collection<T extends ServerFields = never>(name: [T] extends [never] ? never : string): Collection<T>
  /** Changes of several collections, or of all, without gap or repeat; see StreamOptions. */
  stream<Name extends keyof Collections & string = keyof Collections & string>(
    options?: StreamOptions<Name>,
  ): EventStream<StreamEvent<Collections, Name>>
}

/** Needs nothing but fetch and web streams: Node 20 or later, Deno, Bun, browsers. */
export function createClient<Collections extends object = Record<string, Item>>(
  options: ClientOptions,
): Client<Collections> {
  const transport = createTransport(options)
  return {
    collection: (name: string) => createCollection(transport, name),
    stream: (streamOptions: StreamOptions = {}) => createStream(transport, streamOptions),
    // What comes over the wire is of the types that the caller names: the server checks it, not this client.
  } as Client<Collections>
}

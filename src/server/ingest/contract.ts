import type { Item, Json } from '../schemas/item.js'
import type { ImportReport } from '../services/transfer.js'

/** A document whose state an event has changed, as the provider names it. */
export interface Touched {
  collection: string
  id: string
  /** What the provider needs beside the id to find it, such as its session. */
  parent: string
  /** The event says that the document is gone. */
  removed: boolean
}

/** One event of a provider, already as the item that is stored. */
export interface ProviderEvent {
  item: Item
  type: string
  /** False for a type this version has not heard of; it is stored like any other and reported once. */
  known: boolean
  /** When it happened, epoch milliseconds by the provider's clock. */
  at: number
  /** Characters of its text: what bounds of memory are counted in. */
  size: number
  /** Set when the provider keeps the event and tells it again: its stream, and its number there without gaps. */
  kept?: { stream: string; seq: number }
  touched?: Touched
}

/** A document as the provider has it now; without an item when it has it no longer. */
export interface DocumentState {
  touched: Touched
  item?: Item
}

/**
 * Where events come from. A provider knows its own protocol and turns what it reads into items; order, batching,
 * catching up, retries and what counts as a duplicate are the ingester's.
 *
 * Every method rejects with PROVIDER_UNAVAILABLE when the provider is away, which is tried again, and with another
 * code of the catalogue when trying again is of no use.
 */
export interface Provider {
  /** Names it in logs, in the status and in the lease: opencode */
  readonly id: string
  /** Where it is, for messages. */
  readonly where: string
  /** The collection its events go to. */
  readonly events: string
  /** Makes sure that the address is that of such a provider. @throws INVALID_REQUEST when it is something else */
  check(signal: AbortSignal): Promise<void>
  /** Opens the live feed; resolves when no event from now on will be missed. It ends when the connection does. */
  open(signal: AbortSignal): Promise<AsyncIterable<ProviderEvent>>
  /**
   * The events it keeps, at least those behind `known` (the last number of each stream), in order within a stream.
   */
  history(known: ReadonlyMap<string, number>, signal: AbortSignal): AsyncIterable<ProviderEvent>
  /** Documents that no kept event leads to: those of streams that are not in `known` after the history was read. */
  remainder(known: ReadonlyMap<string, number>, signal: AbortSignal): AsyncIterable<DocumentState>
  /** The present state of documents, in any order. Ends in reasonable time by itself: nothing interrupts it. */
  read(touched: readonly Touched[]): Promise<DocumentState[]>
}

/**
 * Where items go. Two implementations: the services in this process, and a running server over HTTP. Both reject with
 * the catalogue's errors; those of 500 and above mean that it is away.
 */
export interface Sink {
  readonly where: string
  /** Adds the items whose ids are free and leaves the others as they are. A refused item disturbs no other. */
  add(collection: string, items: readonly Item[]): Promise<ImportReport>
  /** Creates or replaces. */
  replace(collection: string, items: readonly Item[]): Promise<ImportReport>
  /** The stored ones among these ids. */
  find(collection: string, ids: readonly string[]): Promise<Map<string, Item>>
  /** Deletes a document; false when there was none. */
  remove(collection: string, id: string): Promise<boolean>
  /** Every document that a filter selects, with only these fields, page by page. */
  pages(collection: string, selection: { filter: string; fields: string }): AsyncIterable<Fields[]>
}

/** Some fields of an item. */
export type Fields = Readonly<Record<string, Json>>

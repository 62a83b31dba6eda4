import type { ChangeEvent, Selection } from './types.js'

/** Keeps a stream's position across restarts of the program: a file, a row, localStorage. */
export interface PositionStore {
  /** The position that was saved last; undefined when there is none. */
  load(): Promise<string | undefined> | string | undefined
  /**
   * Called with a position when everything up to it was taken, and awaited. A rejection ends the iteration.
   * Positions come often, with every change: a store that is slow may keep some for itself and save the last.
   */
  save(position: string): Promise<void> | void
}

/** What a stream is doing, for a light in a user interface or a log. */
export type StreamState =
  | { state: 'connecting' }
  | { state: 'open' }
  /** The connection is gone; `reason` is why, and the next attempt comes after `delayMs`. */
  | { state: 'waiting'; delayMs: number; reason: string }

export interface StreamOptions<Name extends string = string> extends Selection {
  /** All, future ones too, when it is left out. */
  collections?: readonly Name[] | undefined
  /**
   * Where to start when the store has no position: at what is written from `now` on (the default), with a `snapshot`
   * of the documents that match, which `createdAfter` implies, or behind a position.
   */
  from?: 'now' | 'snapshot' | (string & {}) | undefined
  store?: PositionStore | undefined
  /**
   * What to do when the server cannot go on from the position. What was read so far may be stale then.
   * - `snapshot`: `reset`, `snapshot_begin`, and all documents anew. The default with `from: 'snapshot'` or `createdAfter`.
   * - `continue`: `reset`, and then what is written from its position on.
   * - `throw`: DualstoreClientError STREAM_RESET. The default otherwise.
   */
  onReset?: 'snapshot' | 'continue' | 'throw' | undefined
  /** Whether heartbeats are events too, for consumers that watch how far they are; false by default. */
  heartbeats?: boolean | undefined
  /** Ends the iteration, without an error. */
  signal?: AbortSignal | undefined
  onState?: ((state: StreamState) => void) | undefined
  /** Silence in milliseconds after which a connection counts as dead: 45,000, three pings of the server. */
  idleTimeoutMs?: number | undefined
}

/** What is not a change. */
export type ControlEvent =
  /** A snapshot starts, or starts anew because it broke off: what was held before is to be cleared. */
  | { type: 'snapshot_begin' }
  /** Everything up to here has been seen, and a snapshot is complete. Comes after every connect. */
  | { type: 'ready'; position: string }
  /** The position asked for is worthless; docs/streams.md lists the reasons. */
  | { type: 'reset'; reason: string; requested: string; position: string }
  | { type: 'heartbeat'; position: string }

/** Told apart by `type`, and changes by `collection` when the collections are typed. */
export type StreamEvent<
  Collections = Record<string, unknown>,
  Name extends keyof Collections & string = keyof Collections & string,
> = { [N in Name]: ChangeEvent<Collections[N], N> }[Name] | ControlEvent

/** A stream of events to be iterated once; the iteration reconnects by itself until it is left or aborted. */
export interface EventStream<Event> extends AsyncIterable<Event> {
  /** Where the consumer is: behind every event it has taken. */
  readonly position: string | undefined
}

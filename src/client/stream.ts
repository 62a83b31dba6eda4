import { changeEvent, type WireChange } from './changes.js'
import { DualstoreClientError } from './errors.js'
import { type ServerEvent, serverEvents } from './event-source.js'
import type { HttpRequest, OpenAnswer, Transport } from './http.js'
import { selectionQuery } from './query.js'
import { backoff, pause } from './retry.js'
import type { EventStream, StreamEvent, StreamOptions } from './stream-options.js'

/** Between connections, until the server says otherwise by `retry:`. */
const RETRY_MS = 1000
const MAX_DELAY_MS = 30_000
const IDLE_MS = 45_000

/** The pause before the next connection, and why there is one. */
interface Next {
  delayMs: number
  reason: string
}

type AnyEvent = StreamEvent<Record<string, unknown>, string>

/** Changes without gap or repeat, over any number of connections. Nothing is read before it is asked for. */
export function createStream(transport: Transport, options: StreamOptions): EventStream<AnyEvent> {
  const follower = new Follower(transport, options)
  const iteration = follower.run()
  return {
    get position() {
      return follower.position
    },
    [Symbol.asyncIterator]: () => iteration,
  }
}

/**
 * Follows one stream. The position moves behind an event when the consumer asks for the next one: it has taken the
 * event then, and whoever crashes before sees it again.
 */
class Follower {
  position: string | undefined
  readonly #transport: Transport
  readonly #options: StreamOptions
  readonly #onReset: 'snapshot' | 'continue' | 'throw'
  /** A snapshot is wanted or under way: until its `ready` there is no position, and when it breaks off it begins anew. */
  #inSnapshot = false
  #retryMs = RETRY_MS
  /** Connections in a row that brought nothing. */
  #failures = 0

  constructor(transport: Transport, options: StreamOptions) {
    this.#transport = transport
    this.#options = options
    this.#onReset = options.onReset ?? (this.#beginsWithSnapshot() ? 'snapshot' : 'throw')
  }

  async *run(): AsyncGenerator<AnyEvent, void, undefined> {
    const { signal, onState, from = 'now', store } = this.#options
    this.position = (await store?.load()) ?? (from === 'now' || from === 'snapshot' ? undefined : from)
    this.#inSnapshot = this.position === undefined && this.#beginsWithSnapshot()
    while (!signal?.aborted) {
      let next: Next
      try {
        onState?.({ state: 'connecting' })
        next = yield* this.#connection()
      } catch (error) {
        if (signal?.aborted) return
        if (!mayPass(error)) throw error
        next = { delayMs: Math.max(error.retryAfterMs ?? 0, this.#delayMs()), reason: error.message }
      }
      onState?.({ state: 'waiting', ...next })
      // Aborting a pause ends the loop, and the iteration with it.
      await pause(next.delayMs, signal).catch(() => {})
    }
  }

  /** One connection to its end, and what to do then. */
  async *#connection(): AsyncGenerator<AnyEvent, Next, undefined> {
    const answer = await this.#transport.openOnce(this.#request())
    requireEvents(answer)
    const events = serverEvents(answer, (ms) => {
      this.#retryMs = Math.min(ms, MAX_DELAY_MS)
    })
    for await (const event of events) {
      this.#options.signal?.throwIfAborted()
      if (event.name !== 'connection') this.#failures = 0
      if (event.name === 'close') return await this.#closed(event)
      if (event.name === 'reset') return yield* this.#reset(event)
      yield* this.#take(event)
    }
    return { delayMs: this.#delayMs(), reason: 'the server ended the stream' }
  }

  async *#take({ name, id, envelope }: ServerEvent): AsyncGenerator<AnyEvent, void, undefined> {
    const data = envelope.data ?? {}
    switch (name) {
      case 'connection':
        this.#options.onState?.({ state: 'open' })
        if (this.#inSnapshot) yield { type: 'snapshot_begin' }
        return
      case 'insert':
      case 'update':
      case 'delete': {
        const position = this.#inSnapshot ? undefined : id
        yield changeEvent(envelope as unknown as WireChange<unknown>, position)
        return await this.#moveTo(position)
      }
      case 'ready': {
        const position = textOf(data.position)
        yield { type: 'ready', position }
        this.#inSnapshot = false
        return await this.#moveTo(position)
      }
      case 'heartbeat': {
        if (this.#inSnapshot) return
        const position = textOf(data.position)
        if (this.#options.heartbeats) yield { type: 'heartbeat', position }
        return await this.#moveTo(position)
      }
      default:
      // Of a newer server; what must not be missed would not come under a new name.
    }
  }

  /**
   * What follows a reset on the same connection depends on when it came and what was asked for; a new connection
   * from a known place does not.
   */
  async *#reset({ envelope }: ServerEvent): AsyncGenerator<AnyEvent, Next, undefined> {
    const { reason, requested, position } = envelope.data ?? {}
    const told = { reason: textOf(reason), requested: textOf(requested), position: textOf(position) }
    const next = { delayMs: backoff(1, this.#retryMs, MAX_DELAY_MS), reason: `reset: ${told.reason}` }
    // Nothing that was complete is lost.
    if (this.#inSnapshot) return next
    if (this.#onReset === 'throw') {
      const message = `the stream cannot go on from ${told.requested} (${told.reason}): what was read may be stale`
      throw new DualstoreClientError('STREAM_RESET', message, { extra: told })
    }
    yield { type: 'reset', ...told }
    if (this.#onReset === 'continue') await this.#moveTo(told.position)
    else {
      this.position = undefined
      this.#inSnapshot = true
    }
    return next
  }

  /** The server spreads the return of its clients itself. */
  async #closed({ envelope }: ServerEvent): Promise<Next> {
    const { reason, position, retry } = envelope.data ?? {}
    if (!this.#inSnapshot && typeof position === 'string') await this.#moveTo(position)
    if (reason === 'unauthorized') {
      const message = 'the server ended the stream: the key was revoked or has expired'
      throw new DualstoreClientError('UNAUTHORIZED', message, { status: 401 })
    }
    const delayMs = Math.min(typeof retry === 'number' ? retry : this.#retryMs, MAX_DELAY_MS)
    return { delayMs, reason: typeof reason === 'string' ? reason : 'closed by the server' }
  }

  async #moveTo(position: string | undefined): Promise<void> {
    if (position === undefined || position === this.position) return
    this.position = position
    await this.#options.store?.save(position)
  }

  /** At least what the server asks for, and a random more that grows. */
  #delayMs(): number {
    this.#failures++
    return Math.min(this.#retryMs + backoff(this.#failures, this.#retryMs, MAX_DELAY_MS), MAX_DELAY_MS)
  }

  #beginsWithSnapshot(): boolean {
    // created_after implies it on the server.
    return this.#options.from === 'snapshot' || this.#options.createdAfter !== undefined
  }

  #request(): HttpRequest {
    const { collections, signal, idleTimeoutMs = IDLE_MS } = this.#options
    const [only, ...others] = collections ?? []
    const one = only !== undefined && others.length === 0
    return {
      path: one ? ['stream', only] : ['stream'],
      query: {
        ...selectionQuery(this.#options),
        collections: one ? undefined : collections?.join(','),
        from: this.#inSnapshot ? 'snapshot' : undefined,
      },
      headers: { accept: 'text/event-stream', 'last-event-id': this.position },
      signal,
      timeoutMs: idleTimeoutMs,
    }
  }
}

/** A server that is down or in trouble will be back; one that refuses the request will refuse it again. */
function mayPass(error: unknown): error is DualstoreClientError {
  return error instanceof DualstoreClientError && (error.retryable || (error.status ?? 0) >= 500)
}

function requireEvents({ response, watch }: OpenAnswer): void {
  const type = response.headers.get('content-type') ?? 'no type'
  if (type.startsWith('text/event-stream')) return
  watch.end()
  throw new DualstoreClientError('INVALID_ANSWER', `${response.url} answered with ${type}, not with events`)
}

function textOf(value: unknown): string {
  if (typeof value === 'string') return value
  throw new DualstoreClientError('INVALID_ANSWER', 'an event lacks its position or reason')
}

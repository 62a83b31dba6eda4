import { setTimeout as delay } from 'node:timers/promises'
import { formatPosition } from '../../changes/position.js'
import type { LogHead } from '../../changes/read.js'
import { DualstoreError } from '../../errors.js'
import { type Lost, PositionLost } from '../../followers/tail.js'
import type { Start } from './beginning.js'
import { controlFrame, retryFrame, type View } from './events.js'
import type { Chunk, Frames } from './frames.js'
import type { Snapshot } from './snapshot.js'

/** Where a stream's bytes go; the route that has the socket makes one. */
export interface Sink {
  /** Writes at once or queues; false when no more should come until `drained`. */
  write(bytes: Buffer): boolean
  /** Ends in order, behind what is queued. */
  end(bytes: Buffer): void
  /** Ends at once. */
  destroy(): void
}

/** What a client has from the hub. */
export interface Hub {
  readonly frames: Frames
  readonly epoch: string
  /** Up to where those in the ring are taken; undefined while the log is not read. */
  readonly position: number | undefined
  now(): number
  /** Where the log ends. @throws STORE_UNAVAILABLE */
  head(): Promise<LogHead>
  /** Puts a client that has caught up into the ring. */
  join(client: StreamClient): void
  /** Takes it out again, when it is there. */
  leave(client: StreamClient): void
  /** Resolves when `position` may be another one. */
  moved(): Promise<void>
  forget(client: StreamClient): void
  failed(client: StreamClient, error: unknown): void
}

export type CloseReason = 'shutting_down' | 'too_slow' | 'unauthorized'

/** What a client waits before it comes back, unless it is told otherwise. */
const RETRY_MS = 2000
const OUTAGE_PAUSE_MS = 500

/** Thrown inside a client's own work when it is gone. */
class Closed extends Error {}

/**
 * One client. It begins alone: what it missed, or a snapshot, is written as fast as it takes it, from memory or from
 * the log. When it has reached the end it joins the ring of the others and costs nothing of its own. When its
 * socket is full it leaves them, keeps nothing but its position, and begins alone again where it stood (I8).
 */
export class StreamClient {
  readonly id: string
  readonly view: View
  /** Who is counted, for the limit: an address. */
  readonly owner: string
  /** Since when its socket has been full; epoch milliseconds. */
  fullSince: number | undefined
  closed = false
  /** Called once when the client is gone, whoever ended it. */
  onGone: () => void = () => {}
  readonly #hub: Hub
  readonly #sink: Sink
  #drained: (() => void) | undefined
  #position: number
  /** It is in the ring. */
  #joined = false
  /** `ready` is due at this position. */
  #readyAt: number | undefined
  #lost: Lost | undefined
  #snapshot: (() => Snapshot) | undefined
  /** A reset or a snapshot is due and not written to its end: there is no position to come back to. */
  #owed = false

  constructor(hub: Hub, options: { id: string; owner: string; view: View; sink: Sink; position: number }) {
    this.#hub = hub
    this.#sink = options.sink
    this.id = options.id
    this.owner = options.owner
    this.view = options.view
    this.#position = options.position
  }

  /** Everything up to here was written, or is not for this view. */
  get position(): number {
    return this.#position
  }

  /**
   * Writes what the stream starts with, and goes on from there. Never rejects.
   * @param snapshot Makes a snapshot, for a client that asked for one: whenever it has no position to go on from.
   */
  start(start: Start, snapshot: (() => Snapshot) | undefined): void {
    this.#owed = start.lost !== undefined || (snapshot !== undefined && !start.resumes)
    void this.#alone(async () => {
      const names = [...(this.view.collections ?? ['all collections'])].join(', ')
      const message = `Connected to ${names} stream`
      const now = this.#hub.now()
      const timestamp = new Date(now).toISOString()
      const greeting = { client_id: this.id, clientId: this.id, timestamp, connected: true, message }
      await this.#write(retryFrame(RETRY_MS) + this.#control('connection', greeting))
      if (start.lost !== undefined)
        await this.#write(this.#reset(start.lost.reason, start.lost.requested, this.#format(start.position)))
      this.#readyAt = start.head
      this.#snapshot = snapshot
      if (!start.resumes) await this.#writeSnapshot()
      this.#owed = false
    })
  }

  /** Writes the changes behind its position. */
  advance({ to, bytes }: Chunk): void {
    this.#position = to
    if (bytes !== undefined) this.push(bytes)
  }

  /** Writes bytes that others may be sent too. When the socket is full with them, it goes on alone once there is room. */
  push(bytes: Buffer): void {
    if (this.closed || this.#sink.write(bytes)) return
    this.fullSince = this.#hub.now()
    this.leave()
  }

  /** Leaves the ring, when it is in it, and goes on alone. */
  leave(): void {
    if (!this.#joined) return
    this.#joined = false
    this.#hub.leave(this)
    void this.#alone(() => this.#room())
  }

  /** What it holds can no longer be continued; it is told when it gets its turn. */
  lost(reason: Lost): void {
    this.#lost = reason
    this.leave()
  }

  /** The socket has room again. */
  drained(): void {
    this.fullSince = undefined
    this.#drained?.()
  }

  /** The socket is gone. */
  gone(): void {
    if (this.closed) return
    this.closed = true
    this.#drained?.()
    this.#hub.forget(this)
    this.onGone()
  }

  /**
   * Ends the stream with a last event that says where and when to come back.
   * @param retry Milliseconds; null: not at all as it is.
   */
  close(reason: CloseReason, retry: number | null): void {
    if (this.closed) return
    const position = this.#owed ? null : this.#format(this.position)
    const last =
      (retry === null ? '' : retryFrame(retry)) + this.#control('close', { reason, position, retry })
    this.#sink.end(Buffer.from(last))
    this.gone()
  }

  destroy(): void {
    this.#sink.destroy()
    this.gone()
  }

  async #alone(before: () => Promise<void> = async () => {}): Promise<void> {
    try {
      await before()
      while (!(await this.#survived())) await this.#room()
    } catch (error) {
      if (error instanceof Closed) return
      this.#hub.failed(this, error)
      this.destroy()
    }
  }

  /** A step, or what is to be done when it cannot be made. */
  async #survived(): Promise<boolean> {
    try {
      return await this.#step()
    } catch (error) {
      if (error instanceof PositionLost) this.#lost = error.reason
      else if (error instanceof DualstoreError && error.retryable) await delay(OUTAGE_PAUSE_MS)
      else throw error
      return false
    }
  }

  /** Writes the next changes; true when this client has joined the others. */
  async #step(): Promise<boolean> {
    if (this.#lost !== undefined) {
      await this.#startOver(this.#lost)
      return false
    }
    const head = this.#hub.position
    const readyAt = this.#readyAt
    if (readyAt !== undefined && this.position >= readyAt) {
      this.#readyAt = undefined
      await this.#write(this.#control('ready', { position: this.#format(this.position) }))
      return false
    }
    if (head === undefined || this.position >= head) {
      // In the ring nobody looks whether it is ready.
      if (this.position === head && readyAt === undefined) {
        this.#joined = true
        this.#hub.join(this)
        return true
      }
      await this.#hub.moved()
      return false
    }
    const upTo = readyAt === undefined ? head : Math.min(readyAt, head)
    this.advance(await this.#hub.frames.next(this.view, this.position, upTo))
    return false
  }

  /** The log no longer holds what this client has not seen: it is told, and goes on from the end. */
  async #startOver(reason: Lost): Promise<void> {
    const requested = this.#format(this.position)
    const { epoch, position } = await this.#hub.head()
    // The tail has not noticed yet that the log is another one.
    if (epoch !== this.#hub.epoch) return this.#hub.moved()
    this.#owed = true
    this.#position = position
    this.#readyAt = position
    await this.#write(this.#reset(reason, requested, formatPosition({ epoch, seq: position })))
    await this.#writeSnapshot()
    // Only now: a snapshot that could not be finished is begun anew.
    this.#lost = undefined
    this.#owed = false
  }

  async #writeSnapshot(): Promise<void> {
    const snapshot = this.#snapshot?.()
    if (snapshot === undefined) return
    for await (const frames of snapshot.frames()) await this.#write(frames)
    this.#position = snapshot.position
    this.#readyAt = snapshot.position
  }

  #reset(reason: string, requested: string, position: string): string {
    return this.#control('reset', { reason, requested, position })
  }

  #control(type: Parameters<typeof controlFrame>[1], data: Readonly<Record<string, unknown>>): string {
    return controlFrame(this.view, type, data, this.#hub.now())
  }

  #format(seq: number): string {
    return formatPosition({ epoch: this.#hub.epoch, seq })
  }

  async #write(text: string): Promise<void> {
    await this.#room()
    this.push(Buffer.from(text))
  }

  /** Resolves when the socket takes more. @throws Closed */
  async #room(): Promise<void> {
    if (this.fullSince !== undefined && !this.closed) {
      await new Promise<void>((resolve) => {
        this.#drained = resolve
      })
      this.#drained = undefined
    }
    if (this.closed) throw new Closed()
  }
}

import { CHANGES_CHANNEL, type Hints } from '../changes/hints.js'
import { type LoggedChange, type LogHead, readHead, readPiece } from '../changes/read.js'
import type { Pool } from '../db/pool.js'
import { sharedReading } from '../db/shared-reading.js'
import type { Item } from '../schemas/item.js'
import type { Follower, Log } from './contract.js'
import { createWaits } from './waits.js'

/** A change whose documents are parsed when somebody must look into them, once for all who do. */
export class LogEntry {
  readonly change: LoggedChange
  #item: Item | undefined
  #previous: Item | null | undefined

  constructor(change: LoggedChange) {
    this.change = change
  }

  get item(): Item {
    this.#item ??= JSON.parse(this.change.text) as Item
    return this.#item
  }

  get previous(): Item | null {
    const { previousText } = this.change
    if (this.#previous === undefined) {
      this.#previous = previousText === null ? null : (JSON.parse(previousText) as Item)
    }
    return this.#previous
  }
}

/** Everything that the log holds behind `after` up to `last`. */
export interface Segment {
  after: number
  last: number
  entries: readonly LogEntry[]
}

/** The changes of a segment behind a position, in order. */
export function* entriesBehind({ entries }: Segment, after: number): Generator<LogEntry> {
  let low = 0
  let high = entries.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((entries[middle]?.change.seq ?? 0) <= after) low = middle + 1
    else high = middle
  }
  for (let entry = entries[low]; entry !== undefined; entry = entries[++low]) yield entry
}

/** Why a position is of no use. */
export type Lost = 'gone' | 'ahead' | 'other_log'

/** Thrown when the log does not hold what comes behind a position. */
export class PositionLost extends Error {
  readonly reason: Lost

  constructor(reason: Lost) {
    super(`the position is ${reason}`)
    this.reason = reason
  }
}

export interface TailListener {
  /** The tail has read up to here. */
  advanced(position: number): void
  /** The log is another one, or has lost its end: nothing that was sent can be relied on. */
  lost(reason: Lost): void
}

/** The one reader of the log that all streams of a process share. It reads only while somebody follows it. */
export interface Tail extends Follower {
  /** Of the log that is read. */
  readonly epoch: string
  /** Where it has read to; undefined while it does not. */
  readonly position: number | undefined
  /** Follows until the returned function is called. */
  follow(listener: TailListener): () => void
  /** Where the log ends, not earlier than now; whoever asks at the same time shares the answer. */
  head(): Promise<LogHead>
  /** What comes behind a position, when it is in memory. */
  inMemory(after: number): Segment | undefined
  /** The same from the log. @throws PositionLost, STORE_UNAVAILABLE */
  load(after: number): Promise<Segment>
}

export interface TailOptions {
  pool: Pool
  epoch: string
  hints: Hints
  pollMs: number
  log: Log
}

const READ_AT_ONCE = 1000
/** What is kept in memory for those who are a little behind. */
const KEPT_ENTRIES = 20_000
const KEPT_TEXT = 16 * 1024 * 1024
/** Pieces of the log that clients catch up from, and how many of those are read at the same time. */
const KEPT_PIECES = 4
const LOADS_AT_ONCE = 2
/** Between two readings of a busy log: a change that follows another at once is read together with its successors. */
const GATHER_MS = 5
const PAUSE_MS = 250

export function createTail({ pool, hints, pollMs, log, ...options }: TailOptions): Tail {
  let { epoch } = options
  const listeners = new Set<TailListener>()
  const recent = createRecent()
  const pieces: Segment[] = []
  const loading = new Map<number, Promise<Segment>>()
  const turns: (() => void)[] = []
  let loads = 0
  let running: Promise<void> | undefined
  let stopping = new AbortController()

  const read = async (after: number): Promise<Segment> => {
    const piece = await readPiece(pool, after, READ_AT_ONCE)
    if (piece.epoch !== epoch) throw new PositionLost('other_log')
    if (after < piece.floor) throw new PositionLost('gone')
    if (after > piece.position) throw new PositionLost('ahead')
    const entries = piece.changes.map((change) => new LogEntry(change))
    return { after, last: piece.changes.at(-1)?.seq ?? piece.position, entries }
  }

  const inMemory = (after: number): Segment | undefined =>
    recent.behind(after) ?? pieces.find((piece) => piece.after <= after && after < piece.last)

  const loadInTurn = async (after: number): Promise<Segment> => {
    if (loads >= LOADS_AT_ONCE) await new Promise<void>((resolve) => turns.push(resolve))
    else loads++
    try {
      // Somebody else may have read it in the meantime.
      const known = inMemory(after)
      if (known !== undefined) return known
      const piece = await read(after)
      // While nobody follows, nobody would notice that the log is another one.
      if (running !== undefined && piece.entries.length > 0 && pieces.push(piece) > KEPT_PIECES)
        pieces.shift()
      return piece
    } finally {
      const next = turns.shift()
      if (next === undefined) loads--
      else next()
    }
  }

  const head = sharedReading(async () => {
    const found = await readHead(pool)
    // Who follows the log learns from the reading itself that it is another one.
    if (running === undefined) epoch = found.epoch
    return found
  })

  const forget = () => {
    recent.begin(undefined)
    pieces.length = 0
  }

  const tell = (call: (listener: TailListener) => void) => {
    for (const listener of [...listeners]) call(listener)
  }

  /** Reads until nobody follows any more. */
  const loop = async (signal: AbortSignal): Promise<void> => {
    const { sleep, pause, wake } = createWaits(signal)
    const unsubscribe = hints.on(CHANGES_CHANNEL, wake)
    let lost: Lost | undefined
    try {
      while (!signal.aborted) {
        try {
          if (recent.last === undefined) {
            const head = await readHead(pool)
            epoch = head.epoch
            recent.begin(head.position)
            // Told when positions of the log as it is now can be given.
            const reason = lost
            lost = undefined
            if (reason !== undefined) tell((listener) => listener.lost(reason))
          }
          const segment = await read(recent.last ?? 0)
          if (signal.aborted) return
          recent.append(segment)
          tell((listener) => listener.advanced(segment.last))
          if (segment.entries.length === 0) await sleep(pollMs)
          else if (segment.entries.length < READ_AT_ONCE) await pause(GATHER_MS)
        } catch (error) {
          if (error instanceof PositionLost) {
            log.error({ reason: error.reason, position: recent.last }, 'the change log is not the one it was')
            forget()
            lost = error.reason
          } else {
            log.warn({ err: error }, 'streams cannot read the change log')
            await pause(PAUSE_MS)
          }
        }
      }
    } finally {
      unsubscribe()
    }
  }

  const run = () => {
    if (running !== undefined) return
    stopping = new AbortController()
    const mine = loop(stopping.signal).finally(() => {
      if (running !== mine) return
      running = undefined
      forget()
      // Somebody came while the last reading was under way.
      if (listeners.size > 0) run()
    })
    running = mine
  }

  return {
    id: 'streams',
    get epoch() {
      return epoch
    },
    get position() {
      return recent.last
    },
    run,
    async stop() {
      listeners.clear()
      stopping.abort()
      await running
    },
    follow(listener) {
      listeners.add(listener)
      run()
      return () => {
        listeners.delete(listener)
        if (listeners.size === 0) stopping.abort()
      }
    },
    head,
    inMemory,
    load(after) {
      const under = loading.get(after)
      if (under !== undefined) return under
      const task = loadInTurn(after).finally(() => loading.delete(after))
      loading.set(after, task)
      return task
    },
  }
}

/** The newest part of the log, bounded; one segment that grows at its end and is cut at its beginning. */
function createRecent() {
  let segment: { after: number; last: number; entries: LogEntry[] } | undefined
  let text = 0
  const sizeOf = ({ change }: LogEntry) => change.text.length + (change.previousText?.length ?? 0)
  return {
    get last() {
      return segment?.last
    },
    /** Starts anew, empty, at a position; or not at all. */
    begin(position: number | undefined) {
      segment = position === undefined ? undefined : { after: position, last: position, entries: [] }
      text = 0
    },
    append({ last, entries }: Segment) {
      if (segment === undefined) return
      for (const entry of entries) {
        segment.entries.push(entry)
        text += sizeOf(entry)
      }
      segment.last = last
      if (segment.entries.length <= KEPT_ENTRIES && text <= KEPT_TEXT) return
      // Cut well below the bound, so that it is not done with every change.
      let cut = 0
      while (
        segment.entries.length - cut > KEPT_ENTRIES / 2 ||
        (text > KEPT_TEXT / 2 && cut < segment.entries.length)
      ) {
        text -= sizeOf(segment.entries[cut] as LogEntry)
        cut++
      }
      const gone = segment.entries.splice(0, cut)
      segment.after = gone.at(-1)?.change.seq ?? segment.after
    },
    behind: (after: number): Segment | undefined =>
      segment !== undefined && segment.after <= after && after < segment.last ? segment : undefined,
  }
}

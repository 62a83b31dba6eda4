import { CHANGES_CHANNEL, type Hints } from '../changes/hints.js'
import { readHead, readTouched, type Touched } from '../changes/read.js'
import type { Pool } from '../db/pool.js'
import type { Follower, Log } from './contract.js'
import { createWaits } from './waits.js'

/** Who must know which documents have changed, whoever changed them. */
export interface TouchedListener {
  /** These have been written or deleted. */
  touched(documents: Touched): void
  /** Changes may have been missed: nothing that was known about any document can be relied on. */
  lost(): void
}

/**
 * Follows which documents are touched, without what they hold. The tail of the streams reads every document with the
 * one before it; whoever only forgets what has changed has no use for either, and this costs a tenth of it.
 */
export interface TouchedFollower extends Follower {
  /**
   * performance.now() before the last reading that reached the log's end: every change that was committed by then has
   * been told. -Infinity before the first.
   */
  readonly currentAt: number
}

export interface TouchedOptions {
  pool: Pool
  hints: Hints
  pollMs: number
  log: Log
  listener: TouchedListener
}

const READ_AT_ONCE = 10_000
/** Between two readings of a busy log. */
const GATHER_MS = 20
const PAUSE_MS = 250

/** Reads from the log's end on; what was before is told as lost. */
export function createTouchedFollower(options: TouchedOptions): TouchedFollower {
  const { pool, hints, pollMs, log, listener } = options
  const stopping = new AbortController()
  let running: Promise<void> | undefined
  let currentAt = Number.NEGATIVE_INFINITY
  /** Which log is followed, and up to where it was read; undefined: it is begun with at its end. */
  let place: { epoch: string; position: number } | undefined

  /** One reading; true when it found something. */
  const read = async (): Promise<boolean> => {
    const began = performance.now()
    if (place === undefined) {
      place = await readHead(pool)
      // Behind the reading: what was learnt of a document before may be older than it.
      listener.lost()
      currentAt = began
      return true
    }
    const { epoch, floor, position, last, ...touched } = await readTouched(pool, place.position, READ_AT_ONCE)
    if (epoch !== place.epoch || place.position < floor || place.position > position) {
      currentAt = Number.NEGATIVE_INFINITY
      place = undefined
      return true
    }
    listener.touched(touched)
    place.position = last
    if (last >= position) currentAt = began
    return touched.ids.length > 0
  }

  const loop = async (): Promise<void> => {
    const { sleep, pause, wake } = createWaits(stopping.signal)
    const unsubscribe = hints.on(CHANGES_CHANNEL, wake)
    let failing = false
    while (!stopping.signal.aborted) {
      try {
        const found = await read()
        failing = false
        await (found ? pause(GATHER_MS) : sleep(pollMs))
      } catch (err) {
        // Once: while PostgreSQL is away others say so.
        if (!failing) log.warn({ err }, 'the cache cannot read the change log; reads go to PostgreSQL')
        failing = true
        await pause(PAUSE_MS)
      }
    }
    unsubscribe()
  }

  return {
    id: 'cache',
    get currentAt() {
      return currentAt
    },
    run() {
      running ??= loop()
    },
    async stop() {
      stopping.abort()
      await running
    },
  }
}

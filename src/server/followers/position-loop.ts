import type { Hints } from '../changes/hints.js'
import { CHANGES_CHANNEL } from '../changes/hints.js'
import { type Change, readChanges } from '../changes/read.js'
import type { Pool } from '../db/pool.js'
import {
  ensureFollower,
  type Lease,
  loseFollower,
  releaseLease,
  rewindPosition,
  storeFollowerError,
  storePosition,
  takeLease,
} from '../store/positions.js'
import type { Follower, Log } from './contract.js'
import { keepLease, LEASE_MS } from './lease.js'
import type { Orders } from './orders.js'
import type { MutableProgress } from './progress.js'
import { createWaits } from './waits.js'

/** What follows the log: the loop brings it each change in order, at least once (I4), or stops when some are gone. */
export interface PositionLoopOptions {
  /** Names the stored position. */
  id: string
  /** Names this process among those that could lead. */
  instance: string
  pool: Pool
  hints: Hints
  log: Log
  progress: MutableProgress
  /** Makes the effect of these changes durable. Called again with the same ones after a failure. */
  apply(changes: readonly Change[]): Promise<void>
  /** Watches a batch while it is applied; nobody does unless it is given. */
  watch?: WatchBatch | undefined
  /** What is ordered; without orders it leads whenever it can. */
  orders?: Pick<Orders, 'halted' | 'onChange'>
  /** Work that a leader does between batches. */
  chore?: Chore
  /** How long a request that apply has sent can still take effect when this process is gone. */
  requestLimitMs: number
  batchSize: number
  pollMs: number
}

/** Runs what applies a batch of a follower, and watches it. */
export type WatchBatch = <T>(
  batch: { follower: string; changes: readonly Change[] },
  work: () => Promise<T>,
) => Promise<T>

/** Work beside following, in pieces: nothing of the log is applied while a piece is under way. */
export interface Chore {
  /**
   * Does a piece of it under a term, of `size` documents at most; false when there is none. A piece must do no harm when it takes effect late,
   * apart from what applying the log again, from where the follower then stands, would mend.
   */
  step(term: number, size: number): Promise<boolean>
  /** Lets go of what it holds between pieces; it goes on with the next one. */
  release(): Promise<void>
}

const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 5000
const AWAITED_POLL_MS = 25

/** Thrown inside the loop when the lease is another instance's, or the position was set back. */
class LostLease extends Error {}

/** Thrown inside the loop when retention has dropped changes that come next. */
class Gone extends Error {
  constructor(position: number, floor: number) {
    super(`it stands at ${position}, and the log begins behind ${floor}: it must be built anew`)
  }
}

/**
 * Leads a follower when it can: takes the lease, reads the log from the stored position, applies, and stores the
 * position after the effect is durable. When another instance leads, it stands by and watches the position.
 *
 * I5: a new leader must never be overtaken by requests of the one before. From one that was killed, it waits until
 * the last request can no longer take effect. One that was only paused, and went on without knowing that its lease
 * had passed, finds its term outdated when it stores the position; it then sets the position back to where it was
 * last confirmed, so that the present leader applies once more whatever the late requests may have disturbed (I4).
 */
export function createPositionLoop(options: PositionLoopOptions): Follower {
  const { id, instance, pool, hints, log, progress, requestLimitMs, pollMs, orders, chore, watch } = options
  const stopping = new AbortController()
  const { sleep, pause, wake } = createWaits(stopping.signal)
  /** Changes read at once; fewer after a failure, so that a slow store can still do something within its limits. */
  let batchSize = options.batchSize
  const longestPauseMs = Math.max(LONGEST_PAUSE_MS, requestLimitMs)
  /** What was applied, or may have been, under this term without its position being stored. */
  let unconfirmed: { position: number; term: number } | undefined
  let running: Promise<void> | undefined
  let unsubscribe: () => void = () => {}

  const apply = (changes: readonly Change[]) =>
    watch === undefined
      ? options.apply(changes)
      : watch({ follower: id, changes }, () => options.apply(changes))

  const lead = async (lease: Lease): Promise<void> => {
    const { term } = lease
    let { position } = lease
    let confirmed = position
    let attempted = position
    let errorIsStored = lease.lastError !== null
    const read = (after: number) => {
      const changes = readChanges(pool, after, batchSize).then((piece) => {
        if (after < piece.floor) throw new Gone(after, piece.floor)
        return piece.changes
      })
      // Awaited later, when it may long have failed.
      changes.catch(() => {})
      return changes
    }
    const store = (to: number) => {
      const stored = storePosition(pool, id, to, term).then((held) => {
        if (held) confirmed = to
        return held
      })
      stored.catch(() => {})
      errorIsStored = false
      return stored
    }
    const keeper = keepLease(pool, id, term)
    let choring = false
    const doChore = async () => {
      choring = true
      const more = (await chore?.step(term, batchSize)) ?? false
      if (keeper.lost()) throw new LostLease()
      choring = false
      if (more) batchSize = Math.min(options.batchSize, batchSize * 2)
      return more
    }
    // The next batch is read while this one is applied, and a position is stored while the next one is.
    let reading = read(position)
    let storing: Promise<boolean> = Promise.resolve(true)
    try {
      progress.advance(position)
      while (!stopping.signal.aborted && orders?.halted === undefined) {
        const changes = await reading
        if (keeper.lost()) throw new LostLease()
        const last = changes.at(-1)
        if (last === undefined) {
          const more = await doChore()
          if (errorIsStored) storing = store(position)
          if (!(await storing)) throw new LostLease()
          progress.succeeded()
          if (!more) await sleep(pollMs)
          reading = read(position)
          continue
        }
        reading = read(last.seq)
        attempted = last.seq
        await apply(changes)
        if (!(await storing) || keeper.lost()) throw new LostLease()
        position = last.seq
        storing = store(position)
        progress.advance(position)
        progress.succeeded()
        batchSize = Math.min(options.batchSize, batchSize * 2)
        await doChore()
      }
    } finally {
      await Promise.allSettled([reading, storing, keeper.stop(), chore?.release()])
      if (attempted > confirmed || choring) unconfirmed = { position: confirmed, term }
    }
  }

  const settleUnconfirmed = async (): Promise<void> => {
    if (unconfirmed === undefined) return
    const { position, term } = unconfirmed
    if (await rewindPosition(pool, id, position, term)) {
      log.warn({ follower: id, position }, 'applied changes without the lease; they will be applied again')
    }
    unconfirmed = undefined
  }

  /** Says once why there is nothing to be done. */
  const standStill = ({ state, stateReason, position }: Lease): void => {
    const reason = stateReason ?? `it is ${state}`
    if (progress.lastError !== reason) {
      log[state === 'lost' ? 'error' : 'warn'](
        { follower: id, position, reason },
        `this follower is ${state}`,
      )
    }
    progress.failed(reason)
  }

  const attempt = async (): Promise<void> => {
    await settleUnconfirmed()
    const lease = await takeLease(pool, id, instance, LEASE_MS)
    if (lease.state !== 'running') {
      standStill(lease)
      await pause(pollMs)
      return
    }
    if (!lease.held) {
      progress.advance(lease.position)
      if (lease.lastError === null) progress.succeeded()
      else progress.failed(lease.lastError)
      await pause(progress.awaited ? AWAITED_POLL_MS : pollMs)
      return
    }
    if (lease.takenOver) {
      log.warn({ follower: id, term: lease.term }, 'took over from a leader that vanished')
      const keeper = keepLease(pool, id, lease.term)
      await pause(requestLimitMs)
      await keeper.stop()
    }
    if (stopping.signal.aborted) return
    await lead(lease)
    // It stopped in order, with everything stored: from here on the follower is at rest, and others may know.
    if (orders?.halted !== undefined) await releaseLease(pool, id, instance)
  }

  /** Waits longer with each failure, and lets another instance try when this one fails for long. */
  const recover = async (failures: number): Promise<void> => {
    const ms = Math.min(longestPauseMs, FIRST_PAUSE_MS * 2 ** Math.min(failures, 10))
    await pause(ms)
    // Only when the last request can no longer take effect.
    if (ms < requestLimitMs || stopping.signal.aborted) return
    await settleUnconfirmed()
    await releaseLease(pool, id, instance)
    await pause(pollMs * 2)
  }

  const loop = async (): Promise<void> => {
    let known = false
    let failures = 0
    let told = ''
    while (!stopping.signal.aborted) {
      try {
        if (!known) await ensureFollower(pool, id)
        known = true
        await attempt()
      } catch (error) {
        if (error instanceof LostLease) {
          log.warn({ follower: id }, 'another instance leads now, or the position was set back')
          continue
        }
        if (error instanceof Gone) {
          await loseFollower(pool, id, error.message).catch(() => {})
          continue
        }
        batchSize = Math.max(1, Math.floor(batchSize / 4))
        failures = progress.failing ? failures + 1 : 1
        const { message, cause } = error as Error
        const reason = cause instanceof Error ? `${message}: ${cause.message}` : message
        if (failures === 1 || reason !== told)
          log.warn({ follower: id, err: error }, 'cannot apply changes; will keep trying')
        told = reason
        progress.failed(reason)
        await storeFollowerError(pool, id, instance, reason).catch(() => {})
        await recover(failures).catch(() => {})
      }
    }
    await settleUnconfirmed().catch(() => {})
    await releaseLease(pool, id, instance).catch(() => {})
  }

  return {
    id,
    run() {
      unsubscribe = hints.on(CHANGES_CHANNEL, wake)
      orders?.onChange(wake)
      running ??= loop()
    },
    async stop() {
      stopping.abort()
      unsubscribe()
      await running
    },
  }
}

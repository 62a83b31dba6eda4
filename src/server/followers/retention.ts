import { readHead } from '../changes/read.js'
import {
  cutLog,
  dropOldest,
  extendLog,
  type LogPartition,
  readPartitions,
  repartition,
  timeOfChange,
} from '../changes/retention.js'
import type { Pool } from '../db/pool.js'
import { isRetryable } from '../db/sqlstate.js'
import { followersBehind, loseFollower, readFollowers } from '../store/positions.js'
import type { Log } from './contract.js'
import { createWaits } from './waits.js'

export interface RetentionOptions {
  pool: Pool
  log: Log
  /** Changes older than this go, in milliseconds; 0: never for their age. */
  maxAgeMs: number
  /** Above so many bytes the oldest changes go, whoever still needs them; 0: never for the log's size. */
  maxBytes: number
  /** Changes of one partition. */
  partitionChanges: number
  /** Milliseconds between two rounds. */
  everyMs?: number
  now?: () => number
}

/** What one round did. */
export interface RetentionRound {
  /** Partitions dropped. */
  dropped: string[]
  /** Running followers that keep changes past their age. */
  heldBy: string[]
  /** Followers whose next changes went. */
  lost: string[]
}

const EVERY_MS = 5000
/** Partitions prepared ahead of the newest change, and how few of them may be left. */
const AHEAD = 8
const FEWEST_AHEAD = 4
/** Between two warnings of the same. */
const REPEAT_MS = 300_000

/**
 * Keeps the log within its age and size by dropping whole partitions, oldest first, and prepares the next ones. A
 * running follower holds back what goes for its age, and is named while it does. What goes for the log's size goes: a
 * follower that had not applied it is marked as lost in the same transaction, so that it stops instead of skipping.
 */
export function createRetention({
  pool,
  log,
  maxAgeMs,
  maxBytes,
  partitionChanges,
  ...options
}: RetentionOptions) {
  const now = options.now ?? Date.now
  const said = new Map<string, number>()

  const say = (level: 'warn' | 'error', key: string, fields: object, message: string): void => {
    if (now() - (said.get(key) ?? Number.NEGATIVE_INFINITY) < REPEAT_MS) return
    said.set(key, now())
    log[level](fields, message)
  }

  const prepare = async (): Promise<void> => {
    const parts = await readPartitions(pool)
    const { position: head } = await readHead(pool)
    const ahead = parts.filter(({ after, last }) => last !== null && after >= head).length
    const current = parts.find(({ after, last }) => head > after && (last === null || head < last))
    if (current !== undefined && (current.last === null || (await isAged(current, head)))) {
      if (current.last === null) log.debug({ head }, 'the log has outrun its partitions')
      await repartition(pool, cutLog)
    }
    if (ahead >= FEWEST_AHEAD) return
    const extended = await repartition(pool, (tx) => extendLog(tx, partitionChanges, AHEAD - ahead))
    if (!extended)
      log.debug({ head }, 'the log was written on while partitions were prepared; will try again')
  }

  /** So that a quiet log, which may never fill a partition, does not keep its changes for ever. */
  const isAged = async ({ after }: LogPartition, head: number): Promise<boolean> => {
    if (maxAgeMs === 0) return false
    const oldest = await timeOfChange(pool, 'oldest', { after, upTo: head })
    return oldest !== undefined && oldest < now() - maxAgeMs
  }

  /** Up to where whole partitions hold nothing younger than the age. */
  const endOfAged = async (full: readonly FullPartition[]): Promise<number> => {
    let end = 0
    if (maxAgeMs === 0) return end
    for (const { after, last } of full) {
      const newest = await timeOfChange(pool, 'newest', { after, upTo: last })
      if (newest !== undefined && newest >= now() - maxAgeMs) break
      end = last
    }
    return end
  }

  /** Up to where whole partitions must go for the rest to fit. */
  const endOfSurplus = (full: readonly FullPartition[], total: number): number => {
    let end = 0
    let bytes = total
    for (const part of full) {
      if (maxBytes === 0 || bytes <= maxBytes) break
      end = part.last
      bytes -= part.bytes
    }
    return end
  }

  const drop = async (part: FullPartition, surplus: number): Promise<{ done: boolean; lost: string[] }> => {
    const { last } = part
    const lost: { id: string; reason: string }[] = []
    const done = await repartition(pool, async (tx) => {
      lost.length = 0
      const behind = await followersBehind(tx, last)
      // It was set back a moment ago.
      if (last > surplus && behind.some(({ state }) => state === 'running')) return false
      for (const { id, position, state } of behind) {
        const why =
          state === 'running' ? 'the log was larger than DUALSTORE_LOG_MAX_BYTES' : `it was ${state}`
        const reason = `it stood at ${position}, and changes up to ${last} were dropped while ${why}: it must be built anew`
        if (await loseFollower(tx, id, reason)) lost.push({ id, reason })
      }
      return dropOldest(tx, part.name)
    })
    if (!done) return { done, lost: [] }
    log.info(
      { partition: part.name, up_to: last, bytes: part.bytes },
      'dropped the oldest part of the change log',
    )
    return { done, lost: lost.map(({ id }) => id) }
  }

  const round = async (): Promise<RetentionRound> => {
    await prepare()
    const parts = await readPartitions(pool)
    const { position: head } = await readHead(pool)
    const full = parts.filter((part): part is FullPartition => part.last !== null && part.last <= head)
    const total = parts.reduce((sum, { bytes }) => sum + bytes, 0)
    const aged = await endOfAged(full)
    const surplus = endOfSurplus(full, total)
    const followers = await readFollowers(pool)
    const holding = followers.filter(({ state, position }) => state === 'running' && position < aged)
    const allowed = Math.min(aged, ...holding.map(({ position }) => position))

    const result: RetentionRound = { dropped: [], heldBy: holding.map(({ id }) => id), lost: [] }
    for (const part of full) {
      if (part.last > Math.max(allowed, surplus)) break
      const { done, lost } = await drop(part, surplus)
      if (!done) break
      result.dropped.push(part.name)
      result.lost.push(...lost)
    }
    for (const { id, position, last_error: error } of holding) {
      if (result.lost.includes(id)) continue
      say(
        'warn',
        `held by ${id}`,
        { follower: id, position, head, error, bytes: total, max_bytes: maxBytes },
        'this follower keeps the change log past its age: mend what keeps it from applying, or pause it; when the log exceeds DUALSTORE_LOG_MAX_BYTES, it is lost and must be built anew',
      )
    }
    for (const { id, position, state_reason: reason } of await readFollowers(pool).then(lostOnes)) {
      say('error', `lost ${id}`, { follower: id, position, reason }, 'this follower is lost: build it anew')
    }
    return result
  }

  return {
    round,

    /** Rounds until the signal is aborted; a failed one is told and followed by the next. */
    async work(signal: AbortSignal): Promise<void> {
      const { pause } = createWaits(signal)
      while (!signal.aborted) {
        await round().catch((err) => {
          const message = isRetryable(err)
            ? 'the change log is held by a transaction that does not end: retention has to wait for it'
            : 'the change log could not be looked after'
          say('warn', message, { err }, message)
        })
        await pause(options.everyMs ?? EVERY_MS)
      }
    },
  }
}

type FullPartition = LogPartition & { last: number }

const lostOnes = <F extends { state: string }>(followers: readonly F[]): F[] =>
  followers.filter(({ state }) => state === 'lost')

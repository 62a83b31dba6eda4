import { formatPosition } from '../../changes/position.js'
import { DualstoreError } from '../../errors.js'
import { entriesBehind, type Lost, PositionLost, type Tail } from '../../followers/tail.js'
import { changeJson, seenBy, type View } from './events.js'

export interface ChangesPage {
  /** The events, each as JSON text. */
  texts: string[]
  /** Where to go on; it moves also past changes that are not for this view. */
  position: string
  hasMore: boolean
}

export interface PollOptions {
  limit: number
  waitMs: number
  /** Any of them ends the waiting. */
  signals: readonly (AbortSignal | undefined)[]
}

/** Changes looked at for one answer: a filter that nothing passes must not read the whole log in one request. */
const LOOK_AT_MOST = 10_000
/** Characters of one answer, the last event being whole: large documents must not pile up in memory. */
const MOST_TEXT = 16 * 1024 * 1024

/** Answers those who ask again and again; they share the tail with the streams. */
export function createPolling(tail: Tail) {
  const closing = new AbortController()

  return {
    /** The changes behind `from`, when the log ended at `end`. @throws POSITION_GONE, STORE_UNAVAILABLE */
    async changes(view: View, from: number, end: number, options: PollOptions): Promise<ChangesPage> {
      const { limit, waitMs } = options
      const waiting =
        waitMs > 0 ? createWaiting(tail, waitMs, [closing.signal, ...options.signals]) : undefined
      const texts: string[] = []
      let at = from
      let head = end
      let looked = 0
      let length = 0
      const full = () => texts.length >= limit || length >= MOST_TEXT
      try {
        for (;;) {
          while (at < head && !full() && looked < LOOK_AT_MOST) {
            const segment = tail.inMemory(at) ?? (await tail.load(at))
            for (const entry of entriesBehind(segment, at)) {
              if (full()) break
              looked++
              at = entry.change.seq
              const seen = seenBy(view, entry)
              if (seen === undefined) continue
              const text = changeJson(entry, seen, tail.epoch)
              length += text.length
              texts.push(text)
            }
            if (!full()) at = Math.max(at, segment.last)
          }
          if (texts.length > 0 || looked >= LOOK_AT_MOST || waiting === undefined) break
          const reached = await waiting.beyond(at)
          if (reached === undefined) break
          head = reached
        }
      } catch (error) {
        if (error instanceof PositionLost) throw positionGone(error.reason, await tail.head())
        throw error
      } finally {
        waiting?.end()
      }
      return { texts, position: formatPosition({ epoch: tail.epoch, seq: at }), hasMore: at < head }
    },

    /** Answers everybody who waits with what there is. */
    close(): void {
      closing.abort()
    },
  }
}

/** What a poll with a worthless position is answered: where to go on after reading everything anew. */
export function positionGone(reason: string, end: { epoch: string; position: number }): DualstoreError {
  const position = formatPosition({ epoch: end.epoch, seq: end.position })
  return new DualstoreError(
    'POSITION_GONE',
    `the position is of no use (${reason}): read the documents anew, then go on from ${position}`,
    { extra: { reason, position } },
  )
}

/** Waits for the tail, as long as a client may wait altogether. */
function createWaiting(tail: Tail, waitMs: number, signals: readonly (AbortSignal | undefined)[]) {
  let lost: Lost | undefined
  let ended = false
  let wake: () => void = () => {}
  const finish = () => {
    ended = true
    wake()
  }
  const unfollow = tail.follow({
    advanced: () => wake(),
    lost(reason) {
      lost = reason
      wake()
    },
  })
  const timer = setTimeout(finish, waitMs)
  for (const signal of signals) {
    if (signal?.aborted) finish()
    signal?.addEventListener('abort', finish)
  }
  return {
    /** Where the tail is, once it is beyond a position; undefined when the time is over. @throws PositionLost */
    async beyond(position: number): Promise<number | undefined> {
      for (;;) {
        if (lost !== undefined) throw new PositionLost(lost)
        if (tail.position !== undefined && tail.position > position) return tail.position
        if (ended) return undefined
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    },
    end() {
      clearTimeout(timer)
      for (const signal of signals) signal?.removeEventListener('abort', finish)
      unfollow()
    },
  }
}

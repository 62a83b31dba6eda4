import { setTimeout as delay } from 'node:timers/promises'

/** Keeps work at a rate on average: call it behind each piece. */
export type Pace = (documents: number) => Promise<void>

/** @param rate Documents a second; undefined for as fast as it goes. */
export function createPace(rate: number | undefined, signal: AbortSignal): Pace {
  let due = Date.now()
  return async (documents) => {
    signal.throwIfAborted()
    if (rate === undefined) return
    // Time that was not used, while something else was slow, is not made up for.
    due = Math.max(due, Date.now() - 1000) + (documents / rate) * 1000
    const ms = due - Date.now()
    if (ms > 0) await delay(ms, undefined, { signal })
  }
}

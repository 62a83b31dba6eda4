import { setTimeout as delay } from 'node:timers/promises'
import { DualstoreError } from '../server/errors.js'

/** How long a step may take altogether. */
export interface Patience {
  signal: AbortSignal
  /** Milliseconds that are left. */
  leftMs(): number
  /**
   * Looks again and again.
   * @param look What is waited for, in words; undefined when it is so.
   * @throws WAIT_TIMEOUT with these words; the signal's reason when it was aborted
   */
  until(look: () => Promise<string | undefined>): Promise<void>
}

const LOOK_MS = 100

/** @param onWaiting Told what is waited for, whenever that is something else. */
export function createPatience(
  timeoutMs: number,
  signal: AbortSignal,
  onWaiting: (what: string) => void = () => {},
): Patience {
  const deadline = performance.now() + timeoutMs
  const leftMs = () => Math.max(0, deadline - performance.now())
  return {
    signal,
    leftMs,
    async until(look) {
      for (let told = ''; ; ) {
        signal.throwIfAborted()
        const waiting = await look()
        if (waiting === undefined) return
        if (waiting !== told) onWaiting(waiting)
        told = waiting
        if (leftMs() === 0) {
          throw new DualstoreError('WAIT_TIMEOUT', `not within ${timeoutMs / 1000} s: ${waiting}`)
        }
        await delay(Math.min(LOOK_MS, leftMs()), undefined, { signal })
      }
    },
  }
}

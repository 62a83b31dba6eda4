import { DualstoreClientError } from './errors.js'

/** How often and how patiently calls are repeated. */
export interface RetryOptions {
  /** Attempts in all; 5 by default, 1 never repeats. */
  attempts?: number | undefined
  /** Longest pause in milliseconds, 10,000 by default. A server that asks for more gets the call's error instead. */
  maxDelayMs?: number | undefined
}

const BASE_MS = 250

/**
 * What a repeat may be made after.
 * - `always`: doing it twice is doing it once, so a broken connection is no reason to give up.
 * - `refused`: only when the server says that it has not begun, because nobody can tell what became of the attempt.
 */
export type Repeatable = 'always' | 'refused'

/** Refusals from before anything was written. STORE_UNAVAILABLE is none: its write may have been made. */
const REFUSED = new Set(['TOO_MANY_REQUESTS', 'OVERLOADED', 'SHUTTING_DOWN', 'MIRROR_UNAVAILABLE'])

/** Runs `attempt` until it succeeds, must not be repeated, or has been tried often enough. */
export async function withRetries<T>(
  attempt: () => Promise<T>,
  repeatable: Repeatable,
  options: RetryOptions & { signal?: AbortSignal | undefined },
): Promise<T> {
  const { attempts = 5, maxDelayMs = 10_000, signal } = options
  for (let made = 1; ; made++) {
    try {
      return await attempt()
    } catch (error) {
      if (made >= attempts || !mayRepeat(error, repeatable)) throw error
      const { retryAfterMs = 0 } = error as DualstoreClientError
      if (retryAfterMs > maxDelayMs) throw error
      await pause(Math.max(retryAfterMs, backoff(made, BASE_MS, maxDelayMs)), signal)
    }
  }
}

function mayRepeat(error: unknown, repeatable: Repeatable): boolean {
  if (!(error instanceof DualstoreClientError) || !error.retryable) return false
  // The write stands, or the position is far off; the server has waited as long as it was told to.
  if (error.code === 'WAIT_TIMEOUT') return false
  return repeatable === 'always' || REFUSED.has(error.code)
}

/** A random pause in milliseconds below a bound that doubles: clients that failed together do not return together. */
export function backoff(failures: number, baseMs: number, maxMs: number): number {
  return Math.random() * Math.min(maxMs, baseMs * 2 ** Math.min(failures - 1, 30))
}

/** Resolves after `ms`, or rejects with the signal's reason as soon as it is aborted. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason)
    const stop = () => {
      clearTimeout(timer)
      reject(signal?.reason)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop)
      resolve()
    }, ms)
    signal?.addEventListener('abort', stop, { once: true })
  })
}

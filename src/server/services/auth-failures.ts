import { hash } from 'node:crypto'
import { LRUCache } from 'lru-cache'

const MINUTE_MS = 60_000
const KEPT = 20_000

export interface AuthFailuresOptions {
  /** Failures of one address in a minute before it must wait; 0: it never must. */
  perMinute: number
  /** Epoch milliseconds. */
  now?: () => number
}

export type AuthFailures = ReturnType<typeof createAuthFailures>

/**
 * Slows down guessing: each failure of an address counts, and what it counts melts away at `perMinute`. An address at
 * its bound must wait before a credential of its is looked at, so that waiting tells nothing about it. What has just
 * been right from the same address is let through, or one bad client would shut out everybody behind its proxy.
 * Bounded, and each process counts for itself.
 */
export function createAuthFailures({ perMinute, now = Date.now }: AuthFailuresOptions) {
  const counts = new LRUCache<string, { count: number; at: number }>({ max: KEPT })
  const known = new LRUCache<string, true>({ max: KEPT })
  const place = (address: string, credential: string) => hash('sha256', `${address} ${credential}`, 'base64')
  const countOf = (address: string): number => {
    const found = counts.get(address)
    if (found === undefined) return 0
    return Math.max(0, found.count - ((now() - found.at) * perMinute) / MINUTE_MS)
  }

  return {
    /** Milliseconds until a credential from this address is looked at; 0: now. */
    waitMs(address: string, credential: string): number {
      if (perMinute === 0) return 0
      const over = countOf(address) + 1 - perMinute
      if (over <= 0 || known.has(place(address, credential))) return 0
      return Math.ceil((over * MINUTE_MS) / perMinute)
    },

    failed(address: string, credential: string): void {
      known.delete(place(address, credential))
      counts.set(address, { count: countOf(address) + 1, at: now() })
    },

    succeeded(address: string, credential: string): void {
      known.set(place(address, credential), true)
    },
  }
}

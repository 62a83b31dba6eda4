import type { Pool } from '../db/pool.js'
import { renewLease } from '../store/positions.js'

/** A leader that vanishes is replaced after this, one polling interval and the limit of its last request. */
export const LEASE_MS = 5000
const RENEW_MS = 1500

/** A lease that is being renewed. */
export interface KeptLease {
  /** True when another term has begun. */
  lost(): boolean
  stop(): Promise<void>
}

/**
 * Renews the lease of a term in the background, however long the work under it takes.
 * @param onLost Called once, when another term has begun.
 */
export function keepLease(pool: Pool, id: string, term: number, onLost: () => void = () => {}): KeptLease {
  let lost = false
  let renewing: Promise<void> | undefined
  const renew = async () => {
    // An outage is no answer: nobody else can take the lease during it either.
    const held = await renewLease(pool, id, term, LEASE_MS).catch(() => true)
    if (!held && !lost) onLost()
    lost ||= !held
    renewing = undefined
  }
  const timer = setInterval(() => {
    renewing ??= renew()
  }, RENEW_MS)
  return {
    lost: () => lost,
    async stop() {
      clearInterval(timer)
      await renewing
    },
  }
}

import type { Pool } from '../db/pool.js'
import { ensureLease, releaseLease, takeLease } from '../store/positions.js'
import type { Follower, Log } from './contract.js'
import { keepLease, LEASE_MS } from './lease.js'
import { createWaits } from './waits.js'

export interface LeasedOptions {
  /** Names the lease. */
  id: string
  /** Names this process among those that could hold it. */
  instance: string
  pool: Pool
  log: Log
  /** Works until the signal is aborted. When it fails it is called again, after a pause. */
  work(signal: AbortSignal): Promise<void>
  /** How often an instance that does not hold the lease asks for it, milliseconds. */
  pollMs: number
  /** Whether this instance may hold the lease now; always without it. `work` ends when it may not any more. */
  mayLead?: () => Promise<boolean>
}

const RETRY_MS = 30_000

/** Work in the background that one of all instances does: whoever holds the lease. The others stand by. */
export function createLeased({ id, instance, pool, log, work, pollMs, mayLead }: LeasedOptions): Follower {
  const stopping = new AbortController()
  const { pause } = createWaits(stopping.signal)
  let running: Promise<void> | undefined

  const lead = async (term: number): Promise<void> => {
    const lost = new AbortController()
    const kept = keepLease(pool, id, term, () => lost.abort())
    try {
      await work(AbortSignal.any([stopping.signal, lost.signal]))
    } finally {
      await kept.stop()
    }
  }

  const loop = async (): Promise<void> => {
    let known = false
    while (!stopping.signal.aborted) {
      try {
        if (!known) await ensureLease(pool, id)
        known = true
        if (mayLead !== undefined && !(await mayLead())) {
          await releaseLease(pool, id, instance)
          await pause(pollMs)
          continue
        }
        const { held, term } = await takeLease(pool, id, instance, LEASE_MS)
        if (held) await lead(term)
        else await pause(pollMs)
      } catch (err) {
        log.error({ lease: id, err }, 'this work has failed; will begin again')
        // Another instance may have what this one lacks.
        await releaseLease(pool, id, instance).catch(() => {})
        await pause(RETRY_MS)
      }
    }
    await releaseLease(pool, id, instance).catch(() => {})
  }

  return {
    id,
    run() {
      running ??= loop()
    },
    async stop() {
      stopping.abort()
      await running
    },
  }
}

import { setTimeout as delay } from 'node:timers/promises'
import { BEAT_MS, type MigrationService } from '../../server/services/migrations.js'

/** Tells of a runner that it has taken in what was waiting when it was asked. */
export type CaughtUp = () => Promise<boolean>

/** Heartbeats behind the question: the first may have been on its way already. */
const BEATS = 2

/**
 * Waits until whoever follows tells, twice from now on, that nothing is waiting.
 * @param patienceMs How long it may take; false is the answer then, and when nobody follows any more.
 */
export function createCaughtUp(
  migrations: MigrationService,
  id: string,
  { patienceMs, signal }: { patienceMs: number; signal: AbortSignal },
): CaughtUp {
  return async () => {
    const deadline = Date.now() + patienceMs
    let last = (await migrations.get(id)).lag?.at
    for (let beats = 0; beats < BEATS; ) {
      if (Date.now() >= deadline) return false
      await delay(BEAT_MS / 2, undefined, { signal })
      const migration = await migrations.get(id)
      if (!migrations.isRun(migration)) return false
      const { lag } = migration
      if (lag === null || lag.at === last) continue
      last = lag.at
      beats = lag.behind === 0 ? beats + 1 : 0
    }
    return true
  }
}

import { setTimeout as delay } from 'node:timers/promises'
import { BEAT_MS, type MigrationService } from '../../server/services/migrations.js'
import { askFollower } from '../question.js'

/** Tells of a runner that it has taken in what was waiting when it was asked. */
export type CaughtUp = () => Promise<boolean>

/**
 * Waits until whoever follows has taken in what is written to the source by now.
 * @param patienceMs How long it may take; false is the answer then, and when nobody follows any more.
 */
export function createCaughtUp(
  migrations: MigrationService,
  id: string,
  { patienceMs, signal }: { patienceMs: number; signal: AbortSignal },
): CaughtUp {
  return async () => {
    const deadline = Date.now() + patienceMs
    const look = await askFollower(migrations, id)
    for (;;) {
      const standing = await look()
      if (standing !== 'waiting' || Date.now() >= deadline) return standing === 'taken'
      await delay(BEAT_MS / 2, undefined, { signal })
    }
  }
}

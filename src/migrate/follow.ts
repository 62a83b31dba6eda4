import type { Lag, StoredProgress } from '../server/services/migrations.js'
import { type Intaking, take, understood } from './backfill.js'

/** How far a follower is behind its source. */
export interface LagGauge {
  /** Null as long as nobody follows. */
  lag(): Lag | null
  /** Everything was taken in that had been written by this time of performance.now(); null while nobody can tell. */
  upTo(): number | null
  /** Tells what is known to be waiting in a collection, and up to when everything was taken in. */
  tell(collection: string, behind: number, upTo?: number | null): void
}

export function createLagGauge(now: () => number = Date.now): LagGauge {
  const waiting = new Map<string, number>()
  const complete = new Map<string, number>()
  let caughtUpAt = now()
  const behind = () => [...waiting.values()].reduce((sum, documents) => sum + documents, 0)
  return {
    lag() {
      if (waiting.size === 0) return null
      const at = now()
      if (behind() === 0) caughtUpAt = at
      return {
        behind: behind(),
        seconds: Math.round((at - caughtUpAt) / 100) / 10,
        at: new Date(at).toISOString(),
      }
    },
    upTo() {
      return waiting.size === 0 || complete.size < waiting.size ? null : Math.min(...complete.values())
    },
    tell(collection, documents, upTo = null) {
      waiting.set(collection, documents)
      if (upTo !== null) complete.set(collection, upTo)
      if (behind() === 0) caughtUpAt = now()
    },
  }
}

/** Takes in what is written to the source from the stored places on, until the signal comes. */
export async function follow(
  intaking: Intaking,
  progress: readonly StoredProgress[],
  { gauge, pollMs }: { gauge: LagGauge; pollMs: number },
): Promise<void> {
  const { source, migrations, pace, signal, onTaken } = intaking
  const checkpoints = new Map(progress.map((one) => [one.collection, one.follow_checkpoint ?? '']))
  for (const collection of checkpoints.keys()) gauge.tell(collection, 0)
  const collections = [...checkpoints.keys()]
  for await (const batch of source.follow({ collections, checkpoints, pollMs, signal })) {
    const { collection, checkpoint, deleted, behind, upTo } = batch
    if (batch.documents.length > 0) gauge.tell(collection, batch.documents.length + behind)
    if (batch.documents.length > 0 || deleted > 0 || checkpoint !== checkpoints.get(collection)) {
      const definition = await migrations.definition(collection)
      const documents = understood(definition, batch.documents)
      const intake = migrations.prepare({ collection, documents, checkpoint, deleted, following: true })
      await take(intaking, intake, batch.documents)
      checkpoints.set(collection, checkpoint)
    }
    gauge.tell(collection, behind, upTo)
    // Also when nothing was written: both ends are there.
    onTaken(collection, batch.documents.length)
    await pace(batch.documents.length)
  }
}

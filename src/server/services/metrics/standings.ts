import { Gauge, type Registry } from 'prom-client'
import type { Pool } from '../../db/pool.js'
import { MIRROR_FOLLOWER } from '../../followers/mirror.js'
import type { Progress } from '../../followers/progress.js'
import { readSizes } from '../../store/sizes.js'
import { readStandings, type Standing } from '../../store/standings.js'
import { createReading, type Reading } from './reading.js'

/** Sizes change slowly, and take a look at every file. */
const SIZES_MS = 30_000

/**
 * Registers what only PostgreSQL knows: how each follower stands, and how much it holds. One small statement a scrape
 * is asked for all followers. While PostgreSQL is away, or slow, the last answer is told again, with what this process
 * knows itself, and dualstore_postgres_up is 0.
 */
export function registerStandings(registry: Registry, pool: Pool, progress: Progress | undefined): void {
  const standings = createReading(pool, readStandings)
  const sizes = createReading(pool, readSizes, SIZES_MS)
  const gauge = (name: string, help: string, reading: Reading<unknown>, read: () => number | undefined) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      async collect() {
        await reading.refresh()
        this.set(read() ?? 0)
      },
    })
  gauge('dualstore_postgres_up', '1 when PostgreSQL answered the question of this reading.', standings, () =>
    standings.up ? 1 : 0,
  )
  gauge('dualstore_log_head', 'Position of the newest change.', standings, () => standings.known?.[0]?.head)
  gauge('dualstore_log_floor', 'Changes up to this position are gone.', sizes, () => sizes.known?.floor)
  gauge('dualstore_log_size_bytes', 'The change log on disk.', sizes, () => sizes.known?.log)
  gauge('dualstore_postgres_size_bytes', 'The database on disk.', sizes, () => sizes.known?.database)

  const each = (name: string, help: string, read: (standing: Standing) => number) =>
    new Gauge({
      name,
      help,
      labelNames: ['follower'],
      registers: [registry],
      async collect() {
        await standings.refresh()
        this.reset()
        for (const standing of standings.known ?? []) this.set({ follower: standing.id }, read(standing))
      },
    })
  const positionOf = ({ id, position }: Standing) =>
    id === MIRROR_FOLLOWER ? Math.max(position, progress?.position ?? 0) : position
  each('dualstore_follower_position', 'Position up to which a follower has applied.', positionOf)
  each('dualstore_follower_lag_changes', 'Changes that a follower has not applied.', (standing) =>
    Math.max(0, standing.head - positionOf(standing)),
  )
  each(
    'dualstore_follower_lag_seconds',
    "Age of the oldest change that a follower has not applied, by PostgreSQL's clock.",
    ({ behind_ms }) => behind_ms / 1000,
  )
  each('dualstore_follower_led', '1 while an instance leads the follower.', ({ led }) => Number(led))
  each('dualstore_follower_failing', '1 while its last attempt has failed.', ({ last_error }) =>
    Number(last_error !== null),
  )
  each('dualstore_parked_documents', 'Documents that a follower cannot apply.', ({ parked }) => parked)
}

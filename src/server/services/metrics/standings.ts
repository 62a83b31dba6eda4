import { Gauge, type Registry } from 'prom-client'
import { availabilityOf, type Pool } from '../../db/pool.js'
import { MIRROR_FOLLOWER } from '../../followers/mirror.js'
import type { Progress } from '../../followers/progress.js'
import { readStandings, type Standing } from '../../store/standings.js'

/** How long the one statement of a scrape may take before what was known last is told. */
const LIMIT_MS = 500

/**
 * Registers what only PostgreSQL knows: how each follower stands. One small statement is asked for them all. While
 * PostgreSQL is away, or slow, the last answer is told again, with what this process knows itself, and
 * dualstore_postgres_up is 0.
 */
export function registerStandings(registry: Registry, pool: Pool, progress: Progress | undefined): void {
  const registers = [registry]
  let known: Standing[] = []
  let reading: Promise<void> | undefined
  let up = false

  /** What PostgreSQL says, or nothing new when it does not answer in time. */
  const refresh = async (): Promise<void> => {
    if (availabilityOf(pool).reach.state !== 'closed') {
      up = false
      return
    }
    let late: NodeJS.Timeout | undefined
    // One that takes longer goes on, and a second is not asked beside it.
    reading ??= readStandings(pool)
      .then((standings) => {
        known = standings
        up = true
      })
      .catch(() => {
        up = false
      })
      .finally(() => {
        reading = undefined
      })
    const limit = new Promise<'late'>((resolve) => {
      late = setTimeout(() => resolve('late'), LIMIT_MS)
    })
    if ((await Promise.race([reading, limit])) === 'late') up = false
    clearTimeout(late)
  }

  new Gauge({
    name: 'dualstore_postgres_up',
    help: '1 when PostgreSQL answered the question of this reading.',
    registers,
    // Collected first, and awaited: the others tell what it has read.
    async collect() {
      await refreshed()
      this.set(up ? 1 : 0)
    },
  })
  let refreshing: Promise<void> | undefined
  /** All gauges of one reading share one question. */
  const refreshed = () => {
    refreshing ??= refresh().finally(() => {
      setImmediate(() => {
        refreshing = undefined
      })
    })
    return refreshing
  }

  const each = (name: string, help: string, read: (standing: Standing) => number) =>
    new Gauge({
      name,
      help,
      labelNames: ['follower'],
      registers,
      async collect() {
        await refreshed()
        this.reset()
        for (const standing of known) this.set({ follower: standing.id }, read(standing))
      },
    })

  new Gauge({
    name: 'dualstore_log_head',
    help: 'Position of the newest change.',
    registers,
    async collect() {
      await refreshed()
      this.set(known[0]?.head ?? 0)
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

import { migrate } from '../../src/server/db/migrate.js'
import { openPool, type Pool } from '../../src/server/db/pool.js'
import { ensureShipped } from '../../src/server/services/collections.js'

/** Connections to a database of the benchmark's, with this version's schema and the shipped collections. */
export async function readyPool(url: string): Promise<Pool> {
  const pool = openPool({
    url,
    size: 10,
    connectTimeoutMs: 60_000,
    statementTimeoutMs: 60_000,
    applicationName: 'dualstore bench',
    onIdleError: () => {},
  })
  await migrate(pool)
  await ensureShipped(pool)
  return pool
}

// A migration from a legacy database, on the way that the command takes, from a source that costs next to nothing.
import { runMigration } from '../../../src/migrate/run.js'
import { createHints } from '../../../src/server/changes/hints.js'
import { createMigrationService } from '../../../src/server/services/migrations.js'
import { localAccess } from '../../../src/server/services/principal.js'
import { createRegistry } from '../../../src/server/services/registry.js'
import { offer, processArgument } from '../channel.js'
import { legacySource } from '../legacy-source.js'
import { readyPool } from '../ready-pool.js'

const { databaseUrl } = processArgument<{ databaseUrl: string }>()
const pool = await readyPool(databaseUrl)
const hints = createHints(pool)
const registry = createRegistry(pool)
await registry.refresh()
const migrations = createMigrationService({ pool, registry, hints })
const source = legacySource()

offer({
  calls: {
    /** Documents per second from BSON to the commit, of as many that are new. */
    migrate: async (count: number) => {
      source.next = count
      const { signal } = new AbortController()
      const { taken, migration, seconds } = await runMigration({
        source,
        migrations,
        access: localAccess,
        signal,
      })
      const created = migration.collections[0]?.created
      if (taken !== count || created !== count)
        throw new Error(`${created} of ${count} documents were created`)
      return taken / seconds
    },
  },
  close: async () => {
    await hints.stop()
    await pool.end()
  },
})

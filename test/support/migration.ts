import { expect } from 'vitest'
import { reportOf, sumOf } from '../../src/migrate/report.js'
import type { RunEnd, RunOptions } from '../../src/migrate/run.js'
import { runMigration } from '../../src/migrate/run.js'
import type { Source } from '../../src/migrate/sources/contract.js'
import { createHints } from '../../src/server/changes/hints.js'
import { readHead } from '../../src/server/changes/read.js'
import type { Pool } from '../../src/server/db/pool.js'
import type { Item } from '../../src/server/schemas/item.js'
import { ensureShipped } from '../../src/server/services/collections.js'
import { createMigrationService, type MigrationService } from '../../src/server/services/migrations.js'
import { localAccess } from '../../src/server/services/principal.js'
import { createRegistry } from '../../src/server/services/registry.js'
import { createDatabase } from './database.js'
import { legacyDatabase } from './legacy-database.js'
import { legacyDocuments, memorySource } from './memory-source.js'

/** Gives a test a database of its own, and the service as the command line has it. */
export async function withMigrations(
  work: (migrations: MigrationService, pool: Pool) => Promise<void>,
): Promise<void> {
  const database = await createDatabase()
  const { pool } = database
  const hints = createHints(pool)
  try {
    await ensureShipped(pool)
    const registry = createRegistry(pool)
    await registry.refresh()
    await work(createMigrationService({ pool, registry, hints }), pool)
  } finally {
    await hints.stop()
    await database.close()
  }
}

/** The stored items of a collection by id. */
export async function items(pool: Pool, collection: string): Promise<Map<string, Item>> {
  const { rows } = await pool.query<{ id: string; item: Item }>(
    'SELECT id, item FROM dualstore.documents WHERE collection = $1',
    [collection],
  )
  return new Map(rows.map(({ id, item }) => [id, item]))
}

/**
 * The property of a generated database: every sum holds, each id holds its newest document, and to migrate once more
 * writes nothing.
 */
export async function checkSeed(seed: number, documents: number): Promise<void> {
  const legacy = legacyDatabase({ seed, documents })
  const source = memorySource(legacyDocuments(legacy))
  await withMigrations(async (migrations, pool) => {
    const { migration } = await migrateFrom(source, migrations)
    expect(migration.state).toBe('backfilled')
    for (const counts of migration.collections) {
      const { winners, ...expected } = legacy.expected(counts.collection)
      expect(counts, `seed ${seed}`).toMatchObject({ ...expected, replaced: 0, unchanged: 0 })
      expect(await items(pool, counts.collection), `seed ${seed}`).toEqual(winners)
    }
    const report = reportOf(migration, { seconds: 1, taken: 0, quarantineFile: null })
    expect(report).toMatchObject(sumOf(Object.values(report.collections)))
    expect(report.read).toBe(report.created + report.merged + report.quarantined)
    expect(report.read).toBe(documents * legacy.collections.length)

    const head = await readHead(pool)
    const kept = await historySize(pool)
    const again = (await migrateFrom(source, migrations)).migration
    for (const counts of again.collections) {
      const { read, created, merged, quarantined } = legacy.expected(counts.collection)
      expect(counts, `seed ${seed}`).toMatchObject({ read, created: 0, replaced: 0, quarantined })
      expect(counts, `seed ${seed}`).toMatchObject({ unchanged: created, merged })
    }
    expect(await readHead(pool)).toEqual(head)
    expect(await historySize(pool)).toBe(kept)
  })
}

async function historySize(pool: Pool): Promise<number> {
  const { rows } = await pool.query<{ count: number }>(
    'SELECT count(*) AS count FROM dualstore.migration_history',
  )
  return rows[0]?.count ?? 0
}

/** Runs a migration to its end. */
export function migrateFrom(
  source: Source,
  migrations: MigrationService,
  options: Partial<RunOptions> = {},
): Promise<RunEnd> {
  return runMigration({
    source,
    migrations,
    access: localAccess,
    signal: new AbortController().signal,
    ...options,
  })
}

/** Everything a migration leaves behind, without its times and names, as one text to compare. */
export async function tableHash(pool: Pool): Promise<string> {
  const { rows } = await pool.query<{ hash: string }>(
    `SELECT md5(string_agg(line, E'\n' ORDER BY line COLLATE "C")) AS hash FROM (
       SELECT md5(concat_ws('|', 'd', collection, id, item::text, created_at, updated_at)) FROM dualstore.documents
       UNION ALL SELECT md5(concat_ws('|', 'h', collection, id, digest, item, updated_at))
         FROM dualstore.migration_history
       UNION ALL SELECT md5(concat_ws('|', 'q', collection, source_id, id, reason, document))
         FROM dualstore.migration_quarantine
       UNION ALL SELECT md5(concat_ws('|', 'c', collection, read, created, replaced, unchanged, merged, quarantined,
           oddities::text, checkpoint, done)) FROM dualstore.migration_collections
     ) AS lines(line)`,
  )
  return rows[0]?.hash ?? ''
}

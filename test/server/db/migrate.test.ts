import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { beforeEach, describe, expect, test } from 'vitest'
import { loadMigrations, type Migration, migrate, migrationStatus } from '../../../src/server/db/migrate.js'
import { openPool, type Queryable } from '../../../src/server/db/pool.js'
import { createDatabase, type TestDatabase } from '../../support/database.js'
import { atEndOfFile } from '../../support/leaks.js'

const shipped = await loadMigrations()
const latest = shipped.length

let database: TestDatabase
beforeEach(async () => {
  await database?.close()
  database = await createDatabase({ migrated: false })
})
atEndOfFile((failed) => database.close({ keep: failed }))

/** Everything a migration could have changed: relations, functions, and what is recorded as applied. */
async function contents(): Promise<unknown> {
  const { rows } = await database.pool.query(`
    SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
    UNION ALL
    SELECT n.nspname, p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
    UNION ALL SELECT 'schema', nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'
    ORDER BY 1, 2`)
  const exists = await database.pool.query(`SELECT to_regclass('dualstore.migrations') AS name`)
  if (exists.rows[0].name === null) return { rows }
  return {
    rows,
    applied: (await database.pool.query('SELECT * FROM dualstore.migrations ORDER BY version')).rows,
  }
}

const next = (sql: string): Migration => ({ version: latest + 1, name: 'next', sql, checksum: 'next' })

test('an empty database is at version 0 with everything pending, and asking changes nothing', async () => {
  const before = await contents()
  expect(await migrationStatus(database.pool)).toEqual({
    current: 0,
    latest,
    applied: [],
    pending: shipped.map(({ version, name }) => ({ version, name })),
  })
  expect(await contents()).toEqual(before)
})

test('migrating applies everything once, in order', async () => {
  expect((await migrate(database.pool)).map((migration) => migration.version)).toEqual(
    shipped.map((migration) => migration.version),
  )
  const after = await contents()
  expect(await migrate(database.pool)).toEqual([])
  expect(await contents()).toEqual(after)
  const status = await migrationStatus(database.pool)
  expect(status).toMatchObject({ current: latest, latest, pending: [] })
  expect(status.applied.map(({ version, name }) => ({ version, name }))).toEqual(
    shipped.map(({ version, name }) => ({ version, name })),
  )
  expect(status.applied[0]!.appliedAt).toBeInstanceOf(Date)
})

test('several concurrent migrations end as one', async () => {
  const applied = await Promise.all(Array.from({ length: 5 }, () => migrate(database.pool)))
  expect(applied.map((migrations) => migrations.length).sort()).toEqual([0, 0, 0, 0, latest])
  expect(await migrationStatus(database.pool)).toMatchObject({ current: latest, pending: [] })
})

test('what was added since is applied on top', async () => {
  await migrate(database.pool)
  const extended = [...shipped, next('CREATE TABLE dualstore.added ()')]
  expect(await migrationStatus(database.pool, extended)).toMatchObject({
    current: latest,
    latest: latest + 1,
  })
  expect((await migrate(database.pool, extended)).map((migration) => migration.name)).toEqual(['next'])
  await database.pool.query('SELECT FROM dualstore.added')
})

test('a database of a newer version is refused and unchanged', async () => {
  await migrate(database.pool, [...shipped, next('CREATE TABLE dualstore.added ()')])
  const before = await contents()
  await expect(migrate(database.pool)).rejects.toMatchObject({
    code: 'SCHEMA_TOO_NEW',
    message: expect.stringMatching(`version ${latest + 1}.*up to ${latest}.*run the newer dualstore`),
  })
  expect(await contents()).toEqual(before)
  expect(await migrationStatus(database.pool)).toMatchObject({ current: latest + 1, latest, pending: [] })
})

test('a database migrated from a file that was edited since is refused and unchanged', async () => {
  await migrate(database.pool)
  const before = await contents()
  const edited = [
    { ...shipped[0]!, checksum: 'edited' },
    ...shipped.slice(1),
    next('CREATE TABLE dualstore.added ()'),
  ]
  await expect(migrate(database.pool, edited)).rejects.toMatchObject({
    code: 'SCHEMA_TOO_NEW',
    message: expect.stringContaining(`migration 1 (${shipped[0]!.name})`),
  })
  expect(await contents()).toEqual(before)
})

test.each([
  ['an empty database', false],
  ['a migrated database', true],
])('a failing migration leaves %s as it was', async (_what, migrated) => {
  if (migrated) await migrate(database.pool)
  const before = await contents()
  const bad = [...shipped, next('CREATE TABLE dualstore.added (); SELECT 1/0')]
  await expect(migrate(database.pool, bad)).rejects.toMatchObject({ code: '22012' })
  expect(await contents()).toEqual(before)
})

test('waiting for the migration of another instance is not cut short by the statement timeout', async () => {
  const impatient = openPool({
    url: database.url,
    size: 1,
    connectTimeoutMs: 2000,
    statementTimeoutMs: 100,
    applicationName: 'impatient',
    onIdleError: () => {},
  })
  const other = await database.pool.connect()
  try {
    const holding = migrate(database.pool, [{ ...shipped[0]!, sql: 'SELECT pg_sleep(0.5)' }])
    await untilMigrating(other)
    // Another program's list would be refused as edited: with the same one there is nothing left to do.
    expect(await migrate(impatient, [shipped[0]!])).toEqual([])
    expect(await holding).toHaveLength(1)
  } finally {
    other.release()
    await impatient.end()
  }
})

async function untilMigrating(on: Queryable): Promise<void> {
  const sleeping = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'`
  while ((await on.query(sleeping)).rowCount === 0);
}

describe('the numbering of the files', () => {
  test('starts at 1 and has no gaps, with a checksum for each', () => {
    expect(shipped.map((migration) => migration.version)).toEqual(shipped.map((_, index) => index + 1))
    for (const { checksum } of shipped) expect(checksum).toMatch(/^[0-9a-f]{64}$/)
  })

  test.each([
    ['a gap', ['0001_one.sql', '0003_three.sql'], '0003_three.sql'],
    ['a number twice', ['0001_one.sql', '0001_two.sql'], '0001_two.sql'],
    ['a start at another number', ['0002_two.sql'], '0002_two.sql'],
    ['a name of another form', ['1-one.sql'], '1-one.sql'],
  ])('%s is refused by the name of the file', async (_what, files, named) => {
    const directory = await mkdtemp(join(tmpdir(), 'dualstore-migrations-'))
    try {
      for (const file of files) await writeFile(join(directory, file), 'SELECT 1')
      await expect(loadMigrations(pathToFileURL(`${directory}/`))).rejects.toThrow(
        `${named} breaks the numbering`,
      )
    } finally {
      await rm(directory, { recursive: true })
    }
  })
})

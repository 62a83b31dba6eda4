import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { DualstoreError } from '../errors.js'
import type { Pool, Queryable } from './pool.js'
import { transaction } from './transaction.js'

const DIRECTORY = new URL('./migrations/', import.meta.url)
// Any fixed number of our own will do: whoever migrates this database holds it.
const MIGRATION_LOCK = 7_305_805_163

export interface Migration {
  /** The number the file name starts with; versions are applied in this order and without gaps. */
  version: number
  name: string
  sql: string
  checksum: string
}

export interface MigrationStatus {
  /** Highest version applied in the database; 0 for an empty one. */
  current: number
  /** Highest version this program knows. */
  latest: number
  applied: { version: number; name: string; appliedAt: Date }[]
  pending: { version: number; name: string }[]
}

/**
 * Reads the numbered .sql files that ship with the program, or those of another directory.
 * @throws INTERNAL for a file whose name breaks the numbering 0001_name.sql, 0002_name.sql, …
 */
export async function loadMigrations(directory: URL = DIRECTORY): Promise<Migration[]> {
  const files = (await readdir(directory)).filter((file) => file.endsWith('.sql')).sort()
  return Promise.all(
    files.map(async (file, index) => {
      const sql = await readFile(new URL(file, directory), 'utf8')
      const [, digits, name] = /^(\d{4})_(\w+)\.sql$/.exec(file) ?? []
      if (digits === undefined || name === undefined || Number(digits) !== index + 1) {
        throw new DualstoreError('INTERNAL', `migration file ${file} breaks the numbering`)
      }
      return { version: index + 1, name, sql, checksum: createHash('sha256').update(sql).digest('hex') }
    }),
  )
}

/**
 * Makes sure that the database is at this program's version, without changing it.
 * @throws SCHEMA_OUTDATED or SCHEMA_TOO_NEW
 */
export async function requireMigrated(pool: Pool): Promise<void> {
  const { current, latest } = await migrationStatus(pool)
  if (current === latest) return
  if (current > latest) throw tooNew(current, latest)
  throw new DualstoreError(
    'SCHEMA_OUTDATED',
    `this database is at version ${current}, and this dualstore works with version ${latest}: run ` +
      '`dualstore db migrate`, or start the server',
  )
}

/** What is applied and what is pending. Changes nothing, and works on a database never migrated. */
export async function migrationStatus(
  pool: Pool,
  migrations?: readonly Migration[],
): Promise<MigrationStatus> {
  const known = migrations ?? (await loadMigrations())
  return transaction(pool, async (tx) => {
    const exists = await tx.query(`SELECT to_regclass('dualstore.migrations') AS name`)
    const applied = exists.rows[0]?.name === null ? [] : await appliedMigrations(tx)
    return describe(known, applied)
  })
}

/**
 * Brings the database to this program's version and returns the migrations that were applied now.
 * All of it is one transaction under one lock: two instances that start at once end as one, the second finding
 * nothing left to do, and a failing migration leaves the database as it was.
 * @param migrations What to bring it to instead of the migrations that ship with the program.
 * @throws SCHEMA_TOO_NEW when the database was migrated by a newer program; nothing is changed.
 */
export async function migrate(pool: Pool, migrations?: readonly Migration[]): Promise<Migration[]> {
  const known = migrations ?? (await loadMigrations())
  return transaction(pool, async (tx) => {
    // Waiting for another instance's migration is not a runaway statement.
    await tx.query('SET LOCAL statement_timeout = 0')
    await lockMigrations(tx)
    await tx.query(`
      CREATE SCHEMA IF NOT EXISTS dualstore;
      CREATE TABLE IF NOT EXISTS dualstore.migrations (
        version integer PRIMARY KEY,
        name text NOT NULL,
        checksum text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
      )`)
    const applied = await appliedMigrations(tx)
    refuseNewer(known, applied)
    refuseEdited(known, applied)
    const pending = known.slice(applied.length)
    for (const migration of pending) {
      await tx.query(migration.sql)
      await tx.query('INSERT INTO dualstore.migrations (version, name, checksum) VALUES ($1, $2, $3)', [
        migration.version,
        migration.name,
        migration.checksum,
      ])
    }
    return pending
  })
}

/** Keeps servers that start from going on until the transaction ends: their first step is to migrate. */
export async function lockMigrations(tx: Queryable): Promise<void> {
  await tx.query('SELECT pg_advisory_xact_lock($1)', [MIGRATION_LOCK])
}

interface Applied {
  version: number
  name: string
  checksum: string
  applied_at: Date
}

async function appliedMigrations(tx: Queryable): Promise<Applied[]> {
  const { rows } = await tx.query<Applied>(
    'SELECT version, name, checksum, applied_at FROM dualstore.migrations ORDER BY version',
  )
  return rows
}

function describe(known: readonly Migration[], applied: readonly Applied[]): MigrationStatus {
  return {
    current: applied.at(-1)?.version ?? 0,
    latest: known.length,
    applied: applied.map((row) => ({ version: row.version, name: row.name, appliedAt: row.applied_at })),
    pending: known.slice(applied.length).map(({ version, name }) => ({ version, name })),
  }
}

function refuseNewer(known: readonly Migration[], applied: readonly Applied[]): void {
  const current = applied.at(-1)?.version ?? 0
  if (current > known.length) throw tooNew(current, known.length)
}

function tooNew(current: number, latest: number): DualstoreError {
  return new DualstoreError(
    'SCHEMA_TOO_NEW',
    `this database is at version ${current}, and this dualstore knows versions up to ${latest}: ` +
      'run the newer dualstore that migrated it, or point DATABASE_URL at another database',
  )
}

/** An applied file that was edited afterwards means that databases differ without anyone knowing. */
function refuseEdited(known: readonly Migration[], applied: readonly Applied[]): void {
  for (const row of applied) {
    const migration = known[row.version - 1]
    if (migration?.checksum === row.checksum) continue
    throw new DualstoreError(
      'SCHEMA_TOO_NEW',
      `migration ${row.version} (${row.name}) was applied to this database from a different file than this ` +
        'dualstore ships: use the dualstore version that applied it',
    )
  }
}

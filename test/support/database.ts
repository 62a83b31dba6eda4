import { randomBytes } from 'node:crypto'
import { basename } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { expect, inject } from 'vitest'
import { migrate } from '../../src/server/db/migrate.js'
import { openPool, type Pool } from '../../src/server/db/pool.js'
import { asAdmin, DATABASE_PREFIX, databaseUrl } from './global-setup.js'
import { atEndOfFile } from './leaks.js'

export interface TestDatabase {
  url: string
  pool: Pool
  /**
   * Ends the pool and drops the database. Rejects when a connection was leaked, naming what it last ran.
   * Called after the file's last test by itself; calling it twice is the same as once.
   */
  close(options?: { keep?: boolean }): Promise<void>
}

export interface DatabaseOptions {
  /** false: never migrated. */
  migrated?: boolean
  poolSize?: number
  /** Its own order of text is English (a, A, b, B): for what must not depend on a database's locale. */
  english?: boolean
}

// Any fixed number: CREATE DATABASE from one template at a time, whoever runs it.
const CLONE_LOCK = 7_305_805_999
/** How long sessions that are closing may take to be gone. */
const CLOSING_MS = 1500

/**
 * A migrated, empty database of the calling test file's own: closed after the file's last test, and kept, with its
 * name printed, when a test failed.
 */
export async function testDatabase(options: DatabaseOptions = {}): Promise<TestDatabase> {
  const database = await createDatabase(options)
  atEndOfFile((failed) => database.close({ keep: failed }))
  return database
}

/** The same without the automatic close, for a test that needs a database for itself. */
export async function createDatabase(options: DatabaseOptions = {}): Promise<TestDatabase> {
  const { adminUrl, template } = inject('postgres')
  const file = basename(expect.getState().testPath ?? 'unknown', '.test.ts').replaceAll(/\W/g, '_')
  const name = `${DATABASE_PREFIX}${file.slice(0, 30)}_${randomBytes(4).toString('hex')}`
  await asAdmin(adminUrl, async (admin) => {
    await admin.query('SELECT pg_advisory_lock($1)', [CLONE_LOCK])
    const source = options.migrated === false || options.english ? 'template0' : template
    const locale = options.english ? ` LOCALE_PROVIDER icu ICU_LOCALE 'en-US'` : ''
    await admin.query(
      `CREATE DATABASE ${pg.escapeIdentifier(name)} TEMPLATE ${pg.escapeIdentifier(source)}${locale}`,
    )
  })
  const url = databaseUrl(adminUrl, name)
  const pool = openPool({
    url,
    size: options.poolSize ?? 10,
    connectTimeoutMs: 5000,
    statementTimeoutMs: 20_000,
    applicationName: `test ${file}`,
    onIdleError: () => {},
  })
  if (options.english && options.migrated !== false) await migrate(pool)
  let closing: Promise<void> | undefined
  return {
    url,
    pool,
    close: ({ keep = false } = {}) => {
      closing ??= close({ adminUrl, name, pool, keep })
      return closing
    },
  }
}

interface Closing {
  adminUrl: string
  name: string
  pool: Pool
  keep: boolean
}

async function close({ adminUrl, name, pool, keep }: Closing): Promise<void> {
  // pool.end() waits for connections that are out, for ever when one is never given back.
  const ended = pool.end()
  await Promise.race([ended, delay(CLOSING_MS, undefined, { ref: false })])
  const leaks = await asAdmin(adminUrl, async (admin) => {
    const remaining = await sessionsGone(admin, name)
    if (keep) console.error(`a test failed: its database is kept as ${name}`)
    else await admin.query(`DROP DATABASE IF EXISTS ${pg.escapeIdentifier(name)} WITH (FORCE)`)
    return remaining
  })
  if (leaks.length > 0) throw new Error(`${leaks.length} connection(s) leaked:\n${leaks.join('\n')}`)
}

/** Waits until nobody is connected to the database; describes who still is when the time is up. */
async function sessionsGone(admin: pg.Client, database: string): Promise<string[]> {
  const deadline = Date.now() + CLOSING_MS
  for (;;) {
    const { rows } = await admin.query<{
      pid: number
      application_name: string
      state: string
      query: string
    }>(
      `SELECT pid, application_name, state, left(query, 200) AS query FROM pg_stat_activity
       WHERE datname = $1 AND backend_type = 'client backend'`,
      [database],
    )
    if (rows.length === 0) return []
    if (Date.now() > deadline) {
      return rows.map((row) => `session ${row.pid} of "${row.application_name}", ${row.state}: ${row.query}`)
    }
    await delay(20)
  }
}

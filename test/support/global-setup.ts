import { existsSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import pg from 'pg'
import type { TestProject } from 'vitest/node'
import { type EmbeddedServer, startEmbedded } from '../../src/server/db/embedded.js'
import { migrate } from '../../src/server/db/migrate.js'
import { openPool } from '../../src/server/db/pool.js'

/** What every test file is told about the PostgreSQL of this run. */
export interface TestPostgres {
  /** May create and drop databases. */
  adminUrl: string
  /** A migrated, empty database to clone. */
  template: string
}

declare module 'vitest' {
  export interface ProvidedContext {
    postgres: TestPostgres
  }
}

const DIRECTORY_PREFIX = 'dualstore-test-'
/** Databases of single test files; testDatabase() makes them and leaves those of failed files. */
export const DATABASE_PREFIX = 'dualstore_file_'

/**
 * One PostgreSQL for the whole run: the embedded one in the system's temporary directory, or the server of
 * TEST_DATABASE_URL, in which databases are then made. Everything is removed at the end, except what a failed file
 * left for a look.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  if (!existsSync('dist/src/server/db/embedded.js')) await execa('npm', ['run', 'build'])
  await removeStale()
  const given = process.env.TEST_DATABASE_URL
  // The directory is made by startEmbedded: as root, PostgreSQL's own user must be able to enter it.
  const directory = join(tmpdir(), `${DIRECTORY_PREFIX}${process.pid}-${Date.now().toString(36)}`)
  const embedded = given === undefined ? await startEmbedded(directory, { maxConnections: 400 }) : undefined
  try {
    const adminUrl = given ?? (embedded as EmbeddedServer).url
    // On a server that others may use too, two runs must not take each other's template.
    const template = given === undefined ? 'dualstore_template' : `dualstore_template_${process.pid}`
    await makeTemplate(adminUrl, template)
    project.provide('postgres', { adminUrl, template })
    return () => tearDown(adminUrl, template, embedded, directory)
  } catch (error) {
    await embedded?.close()
    await rm(directory, { recursive: true, force: true })
    throw error
  }
}

async function makeTemplate(adminUrl: string, template: string): Promise<void> {
  await asAdmin(adminUrl, async (admin) => {
    await admin.query(`DROP DATABASE IF EXISTS ${pg.escapeIdentifier(template)} WITH (FORCE)`)
    await admin.query(`CREATE DATABASE ${pg.escapeIdentifier(template)} TEMPLATE template0`)
  })
  const pool = openPool({
    url: databaseUrl(adminUrl, template),
    size: 1,
    connectTimeoutMs: 5000,
    statementTimeoutMs: 60_000,
    applicationName: 'template',
    onIdleError: () => {},
  })
  await migrate(pool).finally(() => pool.end())
}

async function tearDown(
  adminUrl: string,
  template: string,
  embedded: EmbeddedServer | undefined,
  directory: string,
): Promise<void> {
  const kept = await asAdmin(adminUrl, async (admin) => {
    await admin.query(`DROP DATABASE IF EXISTS ${pg.escapeIdentifier(template)} WITH (FORCE)`)
    const { rows } = await admin.query<{ datname: string }>(
      'SELECT datname FROM pg_database WHERE starts_with(datname, $1)',
      [DATABASE_PREFIX],
    )
    return rows.map((row) => row.datname)
  })
  await embedded?.close()
  if (embedded === undefined) return
  if (kept.length === 0) {
    await rm(directory, { recursive: true, force: true })
  } else {
    console.error(
      `kept for a look, until the next run: ${kept.join(', ')} in the cluster ${directory}/postgres`,
    )
  }
}

/** The connection string of another database on the same server. */
export function databaseUrl(adminUrl: string, database: string): string {
  const url = new URL(adminUrl)
  url.pathname = `/${encodeURIComponent(database)}`
  return url.href
}

/** Runs `work` on a connection that may create and drop databases, and closes it. */
export async function asAdmin<T>(adminUrl: string, work: (admin: pg.Client) => Promise<T>): Promise<T> {
  const admin = new pg.Client({ connectionString: adminUrl, application_name: 'test admin' })
  await admin.connect()
  return await work(admin).finally(() => admin.end())
}

/** Removes what runs that were killed have left: their directory, and their PostgreSQL when it still runs. */
async function removeStale(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = Number(new RegExp(`^${DIRECTORY_PREFIX}(\\d+)-`).exec(name)?.[1])
    if (!(pid > 0) || isAlive(pid)) continue
    const directory = join(tmpdir(), name)
    try {
      // Adopting it proves by its password that it is ours before anything is stopped.
      if (existsSync(join(directory, 'postgres', 'postmaster.pid')))
        await (await startEmbedded(directory)).close()
      await rm(directory, { recursive: true, force: true })
    } catch (error) {
      console.error(`${directory} of an earlier run could not be removed: ${(error as Error).message}`)
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

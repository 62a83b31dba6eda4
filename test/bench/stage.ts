import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { startEmbedded } from '../../src/server/db/embedded.js'
import { type MongoServer, startMongo } from '../support/mongo.js'
import { type Process, startProcess } from './channel.js'
import { seededItem } from './documents.js'
import { post } from './load.js'

export interface Options {
  rounds: number
  /** Length of one measured stretch. */
  seconds: number
  /** Documents seeded before anything is measured. */
  documents: number
  /** Numbers of clients that streams are measured with. */
  clients: readonly number[]
  /** Whether the server's mirror is a MongoDB instead of the embedded one. */
  mongo: boolean
  say(line: string): void
}

/** Everything that is measured, running: all on one PostgreSQL server, each in a database and process of its own. */
export interface Stage extends Options {
  /** The server with its mirror, as it runs by default. */
  server: Process
  /** The same with DUAL_WRITE_ENABLED=false: documents and log only. */
  unmirrored: Process
  handwritten: Process
  bare: Process
  /** Migrations from a legacy database into one of its own. */
  migrating: Process
  /** The follower on a log of its own. */
  follower: Process
  /** A MongoDB wire server, when this machine has one. */
  mongodb: MongoServer | undefined
  /** Connection strings, for rows that start processes of their own. */
  databases: { unmirrored: string; handwritten: string }
  /** Resident memory of the server in MiB before its first request. */
  idleRss: number
  postgresVersion: string
  /** Resolves when the server's mirror has everything. */
  mirrored(): Promise<void>
  /** Closes what was opened, last first. */
  close(): Promise<void>
}

const COLLECTION = '/api/v1/session_messages'
const CHUNK = 10_000

/** Starts everything and seeds the same documents into each database. */
export async function setUp(options: Options): Promise<Stage> {
  const closers: (() => Promise<unknown>)[] = []
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer()
  }
  try {
    const directory = join(tmpdir(), `dualstore-bench-${randomBytes(4).toString('hex')}`)
    closers.push(() => rm(directory, { recursive: true, force: true }))
    const postgres = await startEmbedded(directory)
    closers.push(() => postgres.close())
    const mongodb = await startMongo().catch((error: Error) => {
      if (options.mongo) throw error
      options.say(`no MongoDB on this machine, so no rows about it (${error.message.split('\n')[0]})`)
      return undefined
    })
    if (mongodb !== undefined) closers.push(() => mongodb.stop())

    const admin = new pg.Client({ connectionString: postgres.url })
    await admin.connect()
    closers.push(() => admin.end())
    const databases: Record<string, string> = {}
    for (const name of ['mirrored', 'unmirrored', 'handwritten', 'migrated', 'follower']) {
      await admin.query(`CREATE DATABASE ${name}`)
      databases[name] = Object.assign(new URL(postgres.url), { pathname: `/${name}` }).href
    }
    const started = async (script: string, argument: unknown): Promise<Process> => {
      const process = await startProcess(script, argument)
      closers.push(() => process.stop())
      return process
    }
    const server = await started('dualstore', {
      databaseUrl: databases.mirrored,
      dataDir: directory,
      ...(options.mongo && { mongodbUri: mongodb?.uri }),
    })
    await delay(1000)
    const idleRss = await server.rss()
    const stage: Stage = {
      ...options,
      server,
      idleRss,
      unmirrored: await started('dualstore', { databaseUrl: databases.unmirrored, dualWriteEnabled: false }),
      handwritten: await started('handwritten', { databaseUrl: databases.handwritten }),
      bare: await started('bare', { documents: options.documents }),
      migrating: await started('migrating', { databaseUrl: databases.migrated }),
      follower: await started('follower', { databaseUrl: databases.follower, mongodbUri: mongodb?.uri }),
      mongodb,
      databases: { unmirrored: databases.unmirrored ?? '', handwritten: databases.handwritten ?? '' },
      postgresVersion: (await admin.query('SHOW server_version')).rows[0].server_version,
      mirrored: () => mirrored(databases.mirrored ?? ''),
      close,
    }
    await seed(stage)
    for (const name of ['mirrored', 'unmirrored', 'handwritten', 'migrated'])
      await vacuum(databases[name] ?? '')
    return stage
  } catch (error) {
    await close().catch(() => {})
    throw error
  }
}

async function seed({
  documents,
  server,
  unmirrored,
  handwritten,
  migrating,
  mirrored,
  say,
}: Stage): Promise<void> {
  say(`seeding ${documents} documents`)
  for (let from = 0; from < documents; from += CHUNK) {
    const count = Math.min(CHUNK, documents - from)
    const items = Array.from({ length: count }, (_, index) => seededItem(from + index))
    const lines = items.map((item) => JSON.stringify(item)).join('\n')
    await post(`${server.url}${COLLECTION}/import`, 'application/x-ndjson', lines)
    await post(`${unmirrored.url}${COLLECTION}/import`, 'application/x-ndjson', lines)
    await post(`${handwritten.url}/bulk`, 'application/json', JSON.stringify(items))
  }
  await migrating.call('migrate', documents)
  await mirrored()
}

/** What autovacuum does to a table sooner or later; without it the first rows would measure when it came. */
async function vacuum(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query('VACUUM ANALYZE').finally(() => client.end())
}

async function mirrored(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    for (;;) {
      const { rows } = await client.query(
        `SELECT (SELECT position FROM dualstore.followers WHERE id = 'mirror') >= (SELECT max(seq) FROM dualstore.changes) AS done`,
      )
      if (rows[0].done !== false) return
      await delay(50)
    }
  } finally {
    await client.end()
  }
}

import { randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { type Document, MongoClient } from 'mongodb'
import { expect } from 'vitest'
import type { Pool } from '../../../src/server/db/pool.js'
import { dualstore, freshPath, launch, type Running } from '../../cli/program.js'
import { type Balancer, startBalancer } from '../../support/balancer.js'
import { testDatabase } from '../../support/database.js'
import { until } from '../../support/follower.js'
import { atEndOfFile } from '../../support/leaks.js'
import { type LegacyServer, startLegacyServer } from '../../support/legacy-server/start.js'
import { type MongoServer, startMongo } from '../../support/mongo.js'
import type { Program } from '../../support/process.js'
import { startServer } from '../../support/serve.js'
import { startTraffic, type Traffic } from './traffic.js'

const COMMAND = 'migrate-from-dualstore-http'

/** A legacy server and dualstore behind a balancer, with clients that never rest. */
export interface Site {
  legacy: LegacyServer
  server: Program
  balancer: Balancer
  traffic: Traffic
  pool: Pool
  /** Messages in MongoDB, where the legacy server keeps them or where the mirror is. */
  messages(where: 'legacy' | 'mirror'): Promise<Document[]>
  archive(): Promise<Document[]>
  /** Starts to migrate and to follow; resolves when it follows. */
  follow(): Promise<Running>
  /** Verifies against the source until it is clean. */
  verified(): Promise<void>
  /** Runs a step of the migration. */
  step(...args: string[]): ReturnType<typeof dualstore>
  /** The same without waiting for it. */
  launchStep(...args: string[]): Running
  status(): Promise<Record<string, unknown>>
  /** The legacy server on the database of the mirror. */
  legacyOnMirror(): Promise<LegacyServer>
}

/** Starts it; everything is ended after the file's last test. @param adopt The mirror is the legacy database itself. */
export async function startSite({ adopt }: { adopt: boolean }): Promise<Site> {
  const { url, pool } = await testDatabase()
  const mongo: MongoServer = await startMongo()
  const client = new MongoClient(mongo.uri)
  const name = randomBytes(4).toString('hex')
  const databases = { legacy: `legacy_${name}`, mirror: adopt ? `legacy_${name}` : `mirror_${name}` }
  const cwd = freshPath('cutover')
  await mkdir(cwd)
  const mirror = { MONGODB_URI: mongo.uri, DUALSTORE_MONGODB_DATABASE: databases.mirror }
  const env = { DATABASE_URL: url, ...mirror }
  const startLegacy = (database: string) =>
    startLegacyServer({ variant: 'a', mongodbUri: mongo.uri, database })
  const legacy = await startLegacy(databases.legacy)
  const balancer = await startBalancer(legacy.url)
  const traffic = startTraffic(balancer.url)
  await until(() => traffic.acknowledged.size > 20)
  const options = { cwd, env }
  const adopting = adopt ? ['--adopt'] : []
  const source = ['--mongo-uri', mongo.uri, '--database', databases.legacy]
  const running: Running[] = []
  const programs: Program[] = [legacy]
  const start = (args: string[]) => {
    const one = launch(args, options)
    running.push(one)
    return one
  }
  const stateOf = async () => {
    const { rows } = await pool.query(
      'SELECT state, lag FROM dualstore.source_migrations ORDER BY created_at DESC',
    )
    return rows[0] as { state: string; lag: object | null } | undefined
  }
  // Before the first look of the migration: a mirror that is not paused would begin at once.
  const server = await startServer(env)
  programs.push(server)
  atEndOfFile(async () => {
    await traffic.stop()
    for (const one of running) one.signal('SIGKILL')
    for (const program of programs) await program.kill9().catch(() => {})
    await balancer.close()
    await client.close()
    await mongo.stop()
  })
  const collection = (where: 'legacy' | 'mirror') =>
    client.db(databases[where]).collection('duck_session_messages')
  return {
    legacy,
    server,
    balancer,
    traffic,
    pool,
    messages: (where) => collection(where).find().toArray(),
    archive: () =>
      client.db(databases.mirror).collection('duck_session_messages_before_dualstore').find().toArray(),
    async follow() {
      const following = start([COMMAND, ...source, ...adopting, '--follow', '--poll', '100'])
      const failed = following.ended.then(({ output }) => Promise.reject(new Error(output)))
      failed.catch(() => {})
      const follows = until(async () => {
        const { state, lag } = (await stateOf()) ?? {}
        return state !== 'planned' && state !== 'backfilled' && lag !== null && lag !== undefined
      })
      await Promise.race([follows, failed])
      return following
    },
    async verified() {
      const { code, stdout, stderr } = await dualstore([COMMAND, 'verify', ...source], options)
      expect(code, stdout + stderr).toBe(0)
    },
    step: (...args) => dualstore([COMMAND, ...args], options),
    launchStep: (...args) => start([COMMAND, ...args]),
    async status() {
      const { code, stdout } = await dualstore([COMMAND, 'status', '--json'], options)
      expect(code).toBe(0)
      return JSON.parse(stdout)
    },
    async legacyOnMirror() {
      const program = await startLegacy(databases.mirror)
      programs.push(program)
      return program
    },
  }
}

/** Waits until clients have written so many more documents. */
export async function moreWrites({ traffic }: Site, documents: number): Promise<void> {
  const before = traffic.acknowledged.size
  await until(() => traffic.acknowledged.size >= before + documents)
}

/** Contents of the messages that dualstore holds. */
export async function contents(pool: Pool): Promise<Set<string>> {
  const { rows } = await pool.query<{ content: string }>(
    `SELECT item ->> 'content' AS content FROM dualstore.documents WHERE collection = 'session_messages'`,
  )
  return new Set(rows.map(({ content }) => content))
}

/** What is in the first and not in the second. */
export function missing(all: Iterable<string>, found: ReadonlySet<string>): string[] {
  return [...all].filter((one) => !found.has(one))
}

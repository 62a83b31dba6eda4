import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { startEmbedded } from '../../../src/server/db/embedded.js'
import type { Mirror } from '../../../src/server/mirror/contract.js'
import { openEmbeddedMirror } from '../../../src/server/mirror/embedded.js'
import { openMongoMirror } from '../../../src/server/mirror/mongo.js'
import type { MongoServer } from '../../support/mongo.js'
import type { Program } from '../../support/process.js'
import { startServer } from '../../support/serve.js'
import { compareStores, comparisonPool } from './comparison.js'
import { createRandom } from './random.js'
import { startWriters, type Writers } from './writers.js'

/** What is ended with SIGKILL. */
export type Victim = 'server' | 'postgres' | 'mongodb'

export interface KillRunOptions {
  seed: number
  /** Acknowledged writes in all. */
  writes: number
  /** One after the other, at random counts of acknowledged writes. */
  victims: readonly Victim[]
  dataDir: string
  /** Mirrors into it; the embedded mirror without one. */
  mongo?: MongoServer
}

export interface KillReport {
  seed: number
  acknowledged: number
  unknown: number
  refused: number
  kills: Readonly<Record<Victim, number>>
  documents: number
  changes: number
  seconds: number
  /** The longest time from the kill of a server to its next answer. */
  longestRestartMs: number
  /** From the last acknowledgement until the mirror has everything. */
  drainMs: number
  /** Everything that contradicts an invariant; empty when all is well. */
  violations: string[]
}

/**
 * Writes to a real server while it, its PostgreSQL or its MongoDB is killed at random times, and then holds what is
 * stored against what was acknowledged (I3), and the mirror against PostgreSQL (I4).
 */
export async function killRun(options: KillRunOptions): Promise<KillReport> {
  const { dataDir, mongo, victims, writes } = options
  const random = createRandom(options.seed)
  const env = {
    DUALSTORE_DATA_DIR: dataDir,
    LOG_LEVEL: 'info',
    ...(mongo && { MONGODB_URI: mongo.uri }),
  }
  const began = performance.now()
  let server: Program = await startServer(env)
  let serving = Promise.resolve(server.url)
  const share = writes / (victims.length + 1)
  const plan = victims.map((victim, index) => ({
    victim,
    at: Math.round(share * (index + 0.5 + random())),
    // Into the middle of whatever is under way just then.
    afterMs: random() * 50,
  }))
  const kills = { server: 0, postgres: 0, mongodb: 0 }

  let longestRestartMs = 0
  const restart = async () => {
    const killed = performance.now()
    await server.kill9()
    server = await startServer(env, { timeoutMs: 60_000 })
    longestRestartMs = Math.max(longestRestartMs, Math.round(performance.now() - killed))
    return server.url
  }
  const kill = async (victim: Victim, afterMs: number): Promise<void> => {
    await delay(afterMs)
    kills[victim]++
    if (victim === 'mongodb') {
      await mongo?.kill9()
      await mongo?.restart()
      return
    }
    if (victim === 'postgres') process.kill(await postmasterPid(dataDir), 'SIGKILL')
    serving = restart()
    await serving
  }
  let killing: Promise<void> = Promise.resolve()
  const writers = startWriters({
    seed: options.seed,
    clients: 16,
    documentsPerClient: 40,
    writes,
    url: () => serving,
    onAcknowledged(count) {
      while (plan[0] !== undefined && plan[0].at <= count) {
        const { victim, afterMs } = plan.shift()!
        killing = killing.then(() => kill(victim, afterMs))
        killing.catch(() => {})
      }
    },
  })
  try {
    await writers.done
    await killing
    const written = performance.now()
    await drained(server.url)
    const drainMs = Math.round(performance.now() - written)
    const exit = await server.stop()
    const { violations, ...counts } = await compare(options, writers)
    if (exit.code !== 0) violations.push(`the server ended with ${exit.code ?? exit.signal}`)
    const seconds = Math.round((performance.now() - began) / 1000)
    const { acknowledged, unknown, refused } = writers.tally
    violations.push(...writers.tally.violations)
    const times = { seconds, longestRestartMs, drainMs }
    return { seed: options.seed, acknowledged, unknown, refused, kills, ...counts, ...times, violations }
  } catch (error) {
    await server.kill9()
    // Adopts what the server has left running, to stop it.
    await startEmbedded(dataDir).then((postgres) => postgres.close())
    throw error
  }
}

async function postmasterPid(dataDir: string): Promise<number> {
  return Number((await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8')).split('\n')[0])
}

/** How long the mirror may stand still while it catches up. */
const STANDSTILL_MS = 60_000

/** Waits until the mirror has caught up with the log. */
async function drained(url: string): Promise<void> {
  let deadline = Date.now() + STANDSTILL_MS
  for (let lowest = Number.POSITIVE_INFINITY; ; await delay(50)) {
    const answer = await fetch(`${url}/health/ready`, { headers: { connection: 'close' } })
    const { checks } = (await answer.json()) as { checks: { mirror: { ok: boolean; lag?: number } } }
    const { ok, lag = Number.POSITIVE_INFINITY } = checks.mirror
    if (ok && lag === 0) return
    if (lag < lowest) deadline = Date.now() + STANDSTILL_MS
    lowest = Math.min(lowest, lag)
    if (Date.now() > deadline) throw new Error(`the mirror does not catch up: ${JSON.stringify(checks)}`)
  }
}

async function compare(
  { dataDir, mongo }: KillRunOptions,
  writers: Writers,
): Promise<{ documents: number; changes: number; violations: string[] }> {
  const postgres = await startEmbedded(dataDir)
  const pool = comparisonPool(postgres.url)
  const mirror: Mirror =
    mongo === undefined
      ? openEmbeddedMirror({ directory: join(dataDir, 'mirror') })
      : openMongoMirror({ uri: mongo.uri, database: 'database', prefix: 'duck', timeoutMs: 5000 })
  try {
    return await compareStores(pool, mirror, writers)
  } finally {
    await mirror.close()
    await pool.end()
    await postgres.close()
  }
}

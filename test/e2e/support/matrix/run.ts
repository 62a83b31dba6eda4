import { setTimeout as delay } from 'node:timers/promises'
import type { Pool } from '../../../../src/server/db/pool.js'
import { openMongoMirror } from '../../../../src/server/mirror/mongo.js'
import { readStandings } from '../../../../src/server/store/standings.js'
import { atEndOfFile } from '../../../support/leaks.js'
import { startMongo } from '../../../support/mongo.js'
import { compareStores, comparisonPool } from '../comparison.js'
import { createDraw } from '../random.js'
import { startWriters } from '../writers.js'
import { observeLog } from './observer.js'
import { type Deed, startStage, type Victim } from './stage.js'

/** One thing done to somebody. */
export type Disturbance = readonly [Victim, Deed]

export interface MatrixOptions {
  seed: number
  /** Acknowledged writes in all. */
  writes: number
  /** One after the other, in an order drawn from the seed, at random counts of acknowledged writes. */
  disturbances: readonly Disturbance[]
}

export interface MatrixReport {
  seed: number
  acknowledged: number
  /** Requests whose connection broke. */
  unknown: number
  refused: number
  disturbances: Readonly<Record<string, number>>
  documents: number
  changes: number
  /** Positions of the log that a reader never saw. */
  skipped: number
  seconds: number
  drainMs: number
  /** Everything that contradicts an invariant; empty when all is well. */
  violations: string[]
}

const CLIENTS = 16
/** How long the mirror may stand still while it catches up. */
const STANDSTILL_MS = 60_000

/**
 * Mixed writes of 16 clients to two instances, while servers, the leader of the mirror, MongoDB and PostgreSQL are
 * killed and stopped at random times; then holds both stores against what was acknowledged, and each other.
 */
export async function matrixRun({ seed, writes, disturbances }: MatrixOptions): Promise<MatrixReport> {
  const began = performance.now()
  const draw = createDraw(seed)
  const mongo = await startMongo()
  atEndOfFile(() => mongo.stop())
  const stage = await startStage(mongo)
  const pool = comparisonPool(stage.databaseUrl)
  const observer = observeLog(pool)
  const share = writes / (disturbances.length + 1)
  const plan = shuffled(disturbances, draw.below).map((what, index) => ({
    what,
    at: Math.round(share * (index + 0.3 + draw.below(1000) / 1000)),
  }))
  const done: Record<string, number> = {}
  let disturbing: Promise<void> = Promise.resolve()
  const writers = startWriters({
    seed,
    clients: CLIENTS,
    documentsPerClient: 40,
    writes,
    url: async () => stage.url(draw),
    onAcknowledged(count) {
      for (let next = plan[0]; next !== undefined && next.at <= count; next = plan[0]) {
        plan.shift()
        const [victim, deed] = next.what
        const key = `${deed} ${victim}`
        done[key] = (done[key] ?? 0) + 1
        disturbing = disturbing.then(() => stage.disturb(victim, deed, draw))
        disturbing.catch(() => {})
      }
    },
  })
  try {
    await writers.done
    await disturbing
    const written = performance.now()
    await drained(pool).catch(async (cause: unknown) => {
      throw new Error(`${(cause as Error).message}\n${await stage.describe()}`, { cause })
    })
    const drainMs = Math.round(performance.now() - written)
    const violations = await stage.endInstances()
    const skipped = await observer.skipped()
    const mirror = openMongoMirror({ uri: mongo.uri, database: 'database', prefix: 'duck', timeoutMs: 5000 })
    const compared = await compareStores(pool, mirror, writers).finally(() => mirror.close())
    violations.push(...compared.violations, ...writers.tally.violations)
    const { acknowledged, unknown, refused } = writers.tally
    if (skipped.length > 0) violations.push(`positions that a reader skipped: ${skipped.slice(0, 20)}`)
    return {
      seed,
      acknowledged,
      unknown,
      refused,
      disturbances: done,
      documents: compared.documents,
      changes: compared.changes,
      skipped: skipped.length,
      seconds: Math.round((performance.now() - began) / 1000),
      drainMs,
      violations,
    }
  } finally {
    await observer.skipped().catch(() => {})
    await pool.end()
    await stage.close()
  }
}

/** Waits until the mirror has caught up with the log, as long as it gets on. */
async function drained(pool: Pool): Promise<void> {
  let deadline = Date.now() + STANDSTILL_MS
  for (let lowest = Number.POSITIVE_INFINITY; ; await delay(200)) {
    const [mirror] = await readStandings(pool).catch(() => [])
    const lag = mirror === undefined ? Number.POSITIVE_INFINITY : mirror.head - mirror.position
    if (lag === 0) return
    if (lag < lowest) deadline = Date.now() + STANDSTILL_MS
    lowest = Math.min(lowest, lag)
    if (Date.now() > deadline) throw new Error(`the mirror stands still: ${JSON.stringify(mirror)}`)
  }
}

function shuffled<T>(values: readonly T[], below: (limit: number) => number): T[] {
  const rest = [...values]
  return values.map(() => rest.splice(below(rest.length), 1)[0] as T)
}

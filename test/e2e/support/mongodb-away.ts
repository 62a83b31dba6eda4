import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { openMongoMirror } from '../../../src/server/mirror/mongo.js'
import { createDatabase } from '../../support/database.js'
import { until } from '../../support/follower.js'
import { atEndOfFile } from '../../support/leaks.js'
import { parseMetrics } from '../../support/metrics.js'
import { startMongo } from '../../support/mongo.js'
import { startServer } from '../../support/serve.js'
import { compareStores } from './comparison.js'
import { startWriters } from './writers.js'

export interface AwayReport {
  written: number
  seconds: number
  /** Writes that were not acknowledged, for any reason. */
  failed: number
  /** The largest lag that /metrics told, in changes and in seconds. */
  lagChanges: number
  lagSeconds: number
  /** The highest state of the breaker of the mirror: 2 is open. */
  breaker: number
  drainMs: number
}

const CLIENTS = 16

/** Writes with all might while MongoDB is gone for a while, looking at /metrics; then lets it drain and compares. */
export async function mongoAway(awayMs: number): Promise<AwayReport> {
  const database = await createDatabase()
  atEndOfFile(() => database.close())
  const mongo = await startMongo()
  atEndOfFile(() => mongo.stop())
  const server = await startServer(
    { DATABASE_URL: database.url, MONGODB_URI: mongo.uri },
    { timeoutMs: 60_000 },
  )
  try {
    const metrics = async () => {
      const answer = await fetch(`${server.url}/metrics`, { headers: { connection: 'close' } })
      return parseMetrics(await answer.text())
    }
    let stop = false
    const writers = startWriters({
      seed: 1,
      clients: CLIENTS,
      documentsPerClient: 100,
      // Ended by hand, when MongoDB is back.
      get writes() {
        return stop ? 0 : Number.POSITIVE_INFINITY
      },
      url: async () => server.url,
      onAcknowledged: () => {},
    })
    await until(() => writers.tally.acknowledged > 100)
    const began = performance.now()
    await mongo.kill9()
    const seen = { lagChanges: 0, lagSeconds: 0, breaker: 0 }
    while (performance.now() - began < awayMs) {
      const now = await metrics()
      const most = (key: keyof typeof seen, metric: string) => {
        seen[key] = Math.max(seen[key], now.get(metric) ?? 0)
      }
      most('lagChanges', 'dualstore_follower_lag_changes{follower="mirror"}')
      most('lagSeconds', 'dualstore_follower_lag_seconds{follower="mirror"}')
      most('breaker', 'dualstore_breaker_state{store="mirror"}')
      await delay(250)
    }
    const seconds = Math.round((performance.now() - began) / 1000)
    stop = true
    await writers.done
    const back = performance.now()
    await mongo.restart()
    await until(async () => {
      const now = await metrics()
      const drained = now.get('dualstore_follower_lag_changes{follower="mirror"}') === 0
      return drained && now.get('dualstore_breaker_state{store="mirror"}') === 0
    }, 120_000)
    const drainMs = Math.round(performance.now() - back)
    expect((await server.stop()).code).toBe(0)
    const mirror = openMongoMirror({ uri: mongo.uri, database: 'database', prefix: 'duck', timeoutMs: 5000 })
    const { violations } = await compareStores(database.pool, mirror, writers).finally(() => mirror.close())
    expect([...violations, ...writers.tally.violations]).toEqual([])
    const { acknowledged, refused, unknown } = writers.tally
    return { written: acknowledged, seconds, failed: refused + unknown, ...seen, drainMs }
  } finally {
    await server.kill9()
  }
}

import { expect, test } from 'vitest'
import { testDatabase } from '../support/database.js'
import { oracleRun } from './support/streams/oracle-run.js'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1_000_000))

test('every client is told exactly what the log holds, whatever is killed', {
  timeout: 120_000,
}, async () => {
  const { url, pool } = await testDatabase()
  const report = await oracleRun({
    seed,
    databaseUrl: url,
    pool,
    instances: 2,
    streams: 12,
    polls: 3,
    events: 5000,
    disturbances: 6,
    calmMs: 300,
  })
  console.info(report)
  expect(report.violations).toEqual([])
  expect(report.events).toBeGreaterThanOrEqual(5000)
  expect(report.kills).toBeGreaterThan(0)
})

import { expect, test } from 'vitest'
import { testDatabase } from '../support/database.js'
import { oracleRun } from './support/streams/oracle-run.js'

// npm run test:streams. SEED repeats the draws of a run, EVENTS and DISTURBANCES shorten it.
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1_000_000))
const events = Number(process.env.EVENTS ?? 100_000)
const disturbances = Number(process.env.DISTURBANCES ?? 30)

test(`${events} changes reach clients as the log has them`, async () => {
  const { url, pool } = await testDatabase()
  const report = await oracleRun({
    seed,
    databaseUrl: url,
    pool,
    instances: 3,
    streams: 32,
    polls: 6,
    events,
    disturbances,
    calmMs: 1000,
    onProgress: (came, done) => console.info(`${came} changes received, ${done} disturbances`),
  })
  console.info(report)
  expect(report.violations).toEqual([])
  expect(report.events).toBeGreaterThanOrEqual(events)
  expect(report.kills).toBeGreaterThan(0)
})

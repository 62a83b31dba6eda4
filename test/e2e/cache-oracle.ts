import { expect, test } from 'vitest'
import { testDatabase } from '../support/database.js'
import { cacheOracle } from './support/cache/oracle.js'

// npm run test:cache. SEED repeats the draws of a run, CHECKS shortens it.
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1_000_000))
const checks = Number(process.env.CHECKS ?? 100_000)

test(`${checks} answers of two instances are never older than they may be`, async () => {
  const { url: databaseUrl, pool } = await testDatabase()
  const onProgress = (done: number) => console.info(`${done} answers checked`)
  const report = await cacheOracle({ seed, databaseUrl, pool, checks, onProgress })
  console.info({ seed, ...report })
  expect(report.violations).toEqual([])
  expect(report.checks).toBeGreaterThanOrEqual(checks)
  expect(report.hits).toBeGreaterThan(checks / 10)
  expect(report.unmodified).toBeGreaterThan(0)
})

import { expect, test } from 'vitest'
import { testDatabase } from '../support/database.js'
import { cacheOracle } from './support/cache/oracle.js'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1_000_000))

test('answers of two instances are never older than they may be (npm run test:cache checks more)', {
  timeout: 60_000,
}, async () => {
  const { url: databaseUrl, pool } = await testDatabase()
  const report = await cacheOracle({ seed, databaseUrl, pool, checks: 2000 })
  console.info({ seed, ...report })
  expect(report.violations).toEqual([])
  expect(report.hits).toBeGreaterThan(0)
  expect(report.unmodified).toBeGreaterThan(0)
})

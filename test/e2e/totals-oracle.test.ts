import { expect, test } from 'vitest'
import { testDatabase } from '../support/database.js'
import { totalsRun } from './support/totals-oracle.js'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1_000_000))

test('every total and page is that of a moment between request and answer, whoever writes', {
  timeout: 120_000,
}, async () => {
  const { url, pool } = await testDatabase({ poolSize: 16 })
  const report = await totalsRun({ seed, databaseUrl: url, pool, answers: 400, readers: 4, writers: 3 })
  expect(report.violations, `seed ${seed}`).toEqual([])
  expect(report.overtaken).toBeGreaterThan(0)
})

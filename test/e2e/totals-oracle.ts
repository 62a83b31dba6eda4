import { expect, test } from 'vitest'
import { testDatabase } from '../support/database.js'
import { totalsRun } from './support/totals-oracle.js'

// npm run test:totals. SEED repeats the draws of a run, ANSWERS shortens it.
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1_000_000))
const answers = Number(process.env.ANSWERS ?? 100_000)

test(`${answers} totals and pages are those of a moment between request and answer`, async () => {
  const { url, pool } = await testDatabase({ poolSize: 16 })
  const onProgress = (checked: number) => {
    if (checked % 10_000 === 0) console.info(`${checked} answers checked`)
  }
  const report = await totalsRun({
    seed,
    databaseUrl: url,
    pool,
    answers,
    readers: 6,
    writers: 3,
    onProgress,
  })
  console.info({ seed, ...report })
  expect(report.violations).toEqual([])
  expect(report.checked).toBeGreaterThanOrEqual(answers)
})

import { expect, test } from 'vitest'
import { serverIsAvailable } from '../support/mongo.js'
import { mongoAway } from './support/mongodb-away.js'

// npm run test:failures. SECONDS says how long MongoDB is away.
const seconds = Number(process.env.SECONDS ?? 60)

test(`MongoDB away for ${seconds} s under load: no write fails, and the log drains`, async ({ skip }) => {
  if (!(await serverIsAvailable())) return skip('no MongoDB')
  const report = await mongoAway(seconds * 1000)
  console.table(report)
  expect(report.failed).toBe(0)
  expect(report.breaker).toBeGreaterThan(0)
  expect(report.lagChanges).toBeGreaterThan(0)
  expect(report.lagSeconds).toBeGreaterThan(seconds * 0.8)
})

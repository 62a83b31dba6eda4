import { describe, expect, test } from 'vitest'
import { serverIsAvailable } from '../support/mongo.js'
import { mongoAway } from './support/mongodb-away.js'

// The long run is npm run test:failures.
describe.runIf(await serverIsAvailable())('MongoDB away for 5 s under load', () => {
  test('no write fails, it shows in /metrics, and the log drains', { timeout: 120_000 }, async () => {
    const report = await mongoAway(5000)
    console.info(report)
    expect(report.failed).toBe(0)
    expect(report.breaker).toBeGreaterThan(0)
    expect(report.lagChanges).toBeGreaterThan(0)
    expect(report.lagSeconds).toBeGreaterThan(3)
  })
})

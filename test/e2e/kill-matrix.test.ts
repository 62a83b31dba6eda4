import { describe, expect, test } from 'vitest'
import { serverIsAvailable } from '../support/mongo.js'
import { matrixRun } from './support/matrix/run.js'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1_000_000))

// The long run over the whole matrix is npm run test:matrix.
describe.runIf(await serverIsAvailable())('kill matrix, in short', () => {
  test('nothing acknowledged is lost, the stores end equal', { timeout: 120_000 }, async () => {
    const report = await matrixRun({
      seed,
      writes: 1500,
      disturbances: [
        ['leader', 'kill'],
        ['postgres', 'kill'],
        ['mongodb', 'kill'],
        ['postgres', 'stop'],
      ],
    })
    console.info(report)
    expect(report.violations).toEqual([])
    expect(report.acknowledged).toBeGreaterThanOrEqual(1500)
  })
})

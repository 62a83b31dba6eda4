import { beforeAll, describe, expect, test } from 'vitest'
import { dataDirectory } from '../support/directory.js'
import { atEndOfFile } from '../support/leaks.js'
import { type MongoServer, serverIsAvailable, startMongo } from '../support/mongo.js'
import { killRun } from './support/kill-run.js'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1_000_000))

test('embedded stores: no acknowledged write is lost and the mirror ends equal', {
  timeout: 120_000,
}, async () => {
  const victims = ['server', 'postgres', 'server'] as const
  const report = await killRun({ seed, writes: 3000, victims, dataDir: await dataDirectory() })
  console.info(report)
  expect(report.violations).toEqual([])
  expect(report.acknowledged).toBeGreaterThanOrEqual(3000)
})

describe.runIf(await serverIsAvailable())('with MongoDB', () => {
  let mongo: MongoServer
  beforeAll(async () => {
    mongo = await startMongo()
    atEndOfFile(() => mongo.stop())
  })

  test('no acknowledged write is lost and the mirror ends equal', { timeout: 120_000 }, async () => {
    const victims = ['server', 'mongodb', 'server'] as const
    const report = await killRun({ seed, writes: 3000, victims, dataDir: await dataDirectory(), mongo })
    console.info(report)
    expect(report.violations).toEqual([])
    expect(report.acknowledged).toBeGreaterThanOrEqual(3000)
  })
})

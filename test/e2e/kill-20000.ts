import { afterAll, expect, test } from 'vitest'
import { dataDirectory } from '../support/directory.js'
import { serverIsAvailable, startMongo } from '../support/mongo.js'
import { type KillReport, killRun, type Victim } from './support/kill-run.js'

// npm run test:kill. SEED repeats a run, WRITES shortens it.
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1_000_000))
const writes = Number(process.env.WRITES ?? 20_000) / 2
const reports: Record<string, KillReport> = {}

const servers = (count: number) => Array<Victim>(count).fill('server')

test('embedded stores', async () => {
  const victims: Victim[] = [...servers(6), 'postgres', ...servers(5)]
  const report = await killRun({ seed, writes, victims, dataDir: await dataDirectory() })
  reports.embedded = report
  expect(report.violations).toEqual([])
})

test('embedded PostgreSQL, mirrored into MongoDB', async ({ skip }) => {
  if (!(await serverIsAvailable())) return skip('no MongoDB')
  const mongo = await startMongo()
  const victims: Victim[] = [...servers(5), 'mongodb', ...servers(3), 'postgres', ...servers(2)]
  const report = await killRun({
    seed: seed + 1,
    writes,
    victims,
    dataDir: await dataDirectory(),
    mongo,
  }).finally(() => mongo.stop())
  reports.mongodb = report
  expect(report.violations).toEqual([])
})

afterAll(() => {
  console.table(
    Object.fromEntries(
      Object.entries(reports).map(([name, { kills, violations, ...counts }]) => [
        name,
        { ...counts, ...kills, violations: violations.length },
      ]),
    ),
  )
})

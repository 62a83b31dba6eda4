import { beforeAll, expect, test } from 'vitest'
import { type CheckOptions, checkCompatibility } from '../../src/migrate/compat/check.js'
import { openSide } from '../../src/migrate/compat/exchange.js'
import type { Report } from '../../src/migrate/compat/findings.js'
import { atEndOfFile } from '../support/leaks.js'
import type { LegacyServer, Variant } from '../support/legacy-server/start.js'
import { mongoIsAvailable, testMongo } from '../support/mongo.js'
import { filledDualstore, filledLegacyServer } from './support/both-servers.js'
import { brokenServer, plants } from './support/planted.js'

const mongo = (await mongoIsAvailable()) ? await testMongo() : undefined
if (mongo !== undefined) atEndOfFile(mongo.close)

/** One walk over both servers, or over the target alone. */
async function check(
  targetUrl: string,
  legacyUrl?: string,
  options: Partial<CheckOptions> = {},
): Promise<Report> {
  const target = openSide({ url: targetUrl })
  const legacy = legacyUrl === undefined ? undefined : openSide({ url: legacyUrl })
  try {
    return await checkCompatibility({
      target,
      legacy,
      variant: 'auto',
      keyOnTargetOnly: false,
      writeTarget: true,
      writeLegacy: false,
      heartbeatMs: 0,
      signal: new AbortController().signal,
      ...options,
    })
  } finally {
    target.close()
    legacy?.close()
  }
}

const breaking = ({ findings }: Report) =>
  findings.flatMap(({ name, differences }) =>
    differences
      .filter((difference) => difference.class === 'breaking')
      .map(({ where, legacy, target }) => ({ name, where, legacy, target })),
  )
const defects = ({ findings }: Report) =>
  new Set(findings.flatMap(({ differences }) => differences.map(({ defect }) => defect)))

let target = ''
const legacy: Partial<Record<Variant, LegacyServer>> = {}
beforeAll(async () => {
  target = await filledDualstore({ sseHeartbeatInterval: 100 })
  if (mongo === undefined) return
  for (const variant of ['a', 'b'] as const) legacy[variant] = await filledLegacyServer(mongo, variant)
})

// Before the legacy server is written to: what is made there stays.
test.each(['the recorded contract', 'the stand-in'])(
  'ten planted breakages are all reported, and nothing else, against %s',
  async (reference) => {
    if (reference === 'the stand-in' && mongo === undefined) return
    const url = reference === 'the stand-in' ? legacy.a?.url : undefined
    const found = breaking(await check(await brokenServer(target), url))
    expect(plants).toHaveLength(10)
    for (const { name, seen } of plants) {
      const seenHere = found.filter((one) => one.where === seen.where && seen.name.test(one.name))
      expect(seenHere, name).not.toEqual([])
    }
    expect(found.filter(({ name }) => !plants.some(({ seen }) => seen.name.test(name)))).toEqual([])
  },
)

test.runIf(mongo)('nothing is breaking against the stand-in for variant b', async () => {
  const report = await check(target, legacy.b?.url, { writeLegacy: true, heartbeatMs: 2000 })
  expect(breaking(report)).toEqual([])
  expect(report).toMatchObject({ compatible: true, variant: 'b' })
  expect([...defects(report)]).toEqual(expect.arrayContaining([2, 3, 4, 5, 6, 7, 8, 9]))
})

test.runIf(mongo)('nothing is breaking against variant a, what was updated there included', async () => {
  const path = '/api/v1/agent_tasks/age_11'
  await legacy.a?.update('agent_tasks', 'age_11', { status: 'completed' })
  const headers = { 'content-type': 'application/json', connection: 'close' }
  const changed = await fetch(target + path, { method: 'PATCH', headers, body: '{"status":"completed"}' })
  expect(await changed.json()).toMatchObject({ data: { status: 'completed' } })
  const report = await check(target, legacy.a?.url, { writeLegacy: true, heartbeatMs: 2000 })
  expect(breaking(report)).toEqual([])
  expect(report).toMatchObject({ compatible: true, variant: 'a' })
  expect([...defects(report)]).toEqual(expect.arrayContaining([1, 2, 3, 4, 5, 6, 8, 9]))
  expect(report.findings.find(({ name }) => name === `GET ${path}`)?.differences).toContainEqual(
    expect.objectContaining({ where: 'body.data.status', defect: 1, legacy: '"pending"' }),
  )
})

test('nothing is breaking against the recorded contract of variant b', async () => {
  const report = await check(target, undefined, { variant: 'b' })
  expect(breaking(report)).toEqual([])
  expect(report.reference).toBe('recorded contract')
})

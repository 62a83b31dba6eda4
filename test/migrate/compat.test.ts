import { beforeAll, describe, expect, test } from 'vitest'
import { type CheckOptions, checkCompatibility } from '../../src/migrate/compat/check.js'
import { openSide } from '../../src/migrate/compat/exchange.js'
import type { Report } from '../../src/migrate/compat/findings.js'
import { atEndOfFile } from '../support/leaks.js'
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
const legacyUrl: Record<string, string> = {}
beforeAll(async () => {
  target = await filledDualstore({ sseHeartbeatInterval: 100 })
  if (mongo === undefined) return
  for (const variant of ['a', 'b'] as const)
    legacyUrl[variant] = (await filledLegacyServer(mongo, variant)).url
})

// Before the legacy server is written to: what is made there stays.
test.each(['the recorded contract', 'the stand-in'])(
  'ten planted breakages are all reported, and nothing else, against %s',
  async (reference) => {
    if (reference === 'the stand-in' && mongo === undefined) return
    const legacy = reference === 'the stand-in' ? legacyUrl.a : undefined
    const found = breaking(await check(await brokenServer(target), legacy))
    expect(plants).toHaveLength(10)
    for (const { name, seen } of plants) {
      const seenHere = found.filter((one) => one.where === seen.where && seen.name.test(one.name))
      expect(seenHere, name).not.toEqual([])
    }
    expect(found.filter(({ name }) => !plants.some(({ seen }) => seen.name.test(name)))).toEqual([])
  },
)

describe.runIf(mongo).each(['a', 'b'] as const)('against the stand-in for variant %s', (variant) => {
  test('nothing is breaking, and what differs is told with its defect', async () => {
    const report = await check(target, legacyUrl[variant], { writeLegacy: true, heartbeatMs: 2000 })
    const more = variant === 'b' ? [7] : []
    expect(breaking(report)).toEqual([])
    expect(report).toMatchObject({ compatible: true, variant })
    expect(report.summary['documented fix']).toBeGreaterThan(20)
    expect([...defects(report)]).toEqual(expect.arrayContaining([2, 3, 4, 5, 6, 8, 9, ...more]))
  })
})

test('nothing is breaking against the recorded contract of variant b', async () => {
  const report = await check(target, undefined, { variant: 'b' })
  expect(breaking(report)).toEqual([])
  expect(report.reference).toBe('recorded contract')
})

test.runIf(mongo)('an update that the legacy server made is no difference (defect 1)', async () => {
  const legacy = await filledLegacyServer(mongo!, 'a', { AGENT_NAME: 'updated' })
  const changed = await filledDualstore()
  await legacy.update('agent_tasks', 'age_11', { status: 'completed' })
  await fetch(`${changed}/api/v1/agent_tasks/age_11`, {
    method: 'PATCH',
    headers: { 'content-type': 'application/json', connection: 'close' },
    body: '{"status":"completed"}',
  }).then((answer) => answer.arrayBuffer())
  const report = await check(changed, legacy.url, { writeTarget: false })
  expect(breaking(report)).toEqual([])
  const item = report.findings.find(({ name }) => name === 'GET /api/v1/agent_tasks/age_11')
  expect(item?.differences).toContainEqual(
    expect.objectContaining({ where: 'body.data.status', defect: 1, legacy: '"pending"' }),
  )
})

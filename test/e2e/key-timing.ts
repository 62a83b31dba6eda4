import { Agent, request } from 'node:http'
import { expect, test } from 'vitest'
import { createKeyCache } from '../../src/server/services/key-cache.js'
import { formatKey, newKeyId, newSecret } from '../../src/server/services/key-format.js'
import { createKeyUsage } from '../../src/server/services/key-usage.js'
import { createKeyService } from '../../src/server/services/keys.js'
import { localAccess } from '../../src/server/services/principal.js'
import { testDatabase } from '../support/database.js'
import { atEndOfFile } from '../support/leaks.js'
import { startServer } from '../support/serve.js'
import { mannWhitney, median, medianNoise, shuffle } from './support/statistics.js'

// npm run test:timing. ROUNDS changes how often each kind of key is tried.
const rounds = Number(process.env.ROUNDS ?? 5000)
const WARM_UP = 500
/** How often chance alone may fail the test. */
const SHARE = 0.001

/** The same kind of request twice, to tell how much two medians differ by chance, and what must not differ from it. */
const kinds = ['remembered', 'remembered again', 'not remembered', 'unknown'] as const
type Kind = (typeof kinds)[number]

test('how long a wrong key takes does not tell whether its id is known', async () => {
  const { url, pool } = await testDatabase()
  const keys = createKeyService({ pool, cache: createKeyCache({ pool }), usage: createKeyUsage(pool) })
  const make = () => keys.create(localAccess, { name: 'a test', role: 'reader' })
  const [used, unused] = [await make(), await make()]
  // So that the table is not all but empty.
  for (let count = 0; count < 200; count++) await make()
  const server = await startServer(
    { DATABASE_URL: url, DUAL_WRITE_ENABLED: 'false', AUTH_ENABLED: 'true' },
    { until: 'listening' },
  )
  atEndOfFile(async () => void (await server.stop()))
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  atEndOfFile(async () => agent.destroy())

  expect((await timed(server.url, used.key, agent)).status).toBe(200)
  const ids: Record<Kind, () => string> = {
    remembered: () => used.id,
    'remembered again': () => used.id,
    'not remembered': () => unused.id,
    unknown: newKeyId,
  }
  const times: Record<Kind, number[]> = {
    remembered: [],
    'remembered again': [],
    'not remembered': [],
    unknown: [],
  }
  for (let round = -WARM_UP; round < rounds; round++) {
    for (const kind of shuffle([...kinds])) {
      const key = formatKey({ id: ids[kind](), secret: newSecret() })
      const { status, ms } = await timed(server.url, key, agent)
      expect(status).toBe(401)
      if (round >= 0) times[kind].push(ms * 1000)
    }
  }

  const noise = medianNoise([...times.remembered, ...times['remembered again']], SHARE)
  console.table(
    Object.fromEntries(
      kinds.map((kind) => [
        kind,
        {
          'median, µs': round1(median(times[kind])),
          'apart from remembered, µs': round1(median(times[kind]) - median(times.remembered)),
          'Mann-Whitney, z': round1(mannWhitney(times[kind], times.remembered)),
        },
      ]),
    ),
  )
  console.log(`by chance alone medians are less than ${round1(noise)} µs apart, but for ${SHARE} of the time`)
  for (const kind of ['not remembered', 'unknown'] as const) {
    expect(Math.abs(median(times[kind]) - median(times.remembered)), kind).toBeLessThan(noise)
  }
})

function timed(url: string, key: string, agent: Agent): Promise<{ status: number; ms: number }> {
  return new Promise((resolve, reject) => {
    const began = performance.now()
    const headers = { authorization: `Bearer ${key}` }
    request(`${url}/api/v1/collections`, { agent, headers }, (response) => {
      response.resume().once('end', () => {
        resolve({ status: response.statusCode ?? 0, ms: performance.now() - began })
      })
    })
      .once('error', reject)
      .end()
  })
}

const round1 = (value: number) => Math.round(value * 10) / 10

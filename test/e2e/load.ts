import { afterAll, expect, test } from 'vitest'
import { percentile } from '../bench/rounds.js'
import { testDatabase } from '../support/database.js'
import { dataDirectory } from '../support/directory.js'
import { startServer } from '../support/serve.js'
import { mixedLoad } from './support/load/mixed.js'

// npm run test:load. CLIENTS and SECONDS change it.
const clients = Number(process.env.CLIENTS ?? 256)
const seconds = Number(process.env.SECONDS ?? 60)
const table: Record<string, object> = {}

test(`${clients} clients read and write for ${seconds} s, and every answer is right`, async () => {
  const { url } = await testDatabase()
  const server = await startServer({ DATABASE_URL: url, DUALSTORE_DATA_DIR: await dataDirectory() })
  try {
    const { kinds, statuses } = await mixedLoad({
      url: server.url,
      clients,
      signal: AbortSignal.timeout(seconds * 1000),
    })
    for (const [kind, { count, times }] of Object.entries(kinds)) {
      table[kind] = {
        'requests/s': Math.round(count / seconds),
        'p50 ms': Number(percentile(times, 0.5).toFixed(1)),
        'p99 ms': Number(percentile(times, 0.99).toFixed(1)),
      }
    }
    table.statuses = statuses
    // Each client works on documents of its own, so that nothing it asks for can be missing.
    expect(Object.keys(statuses).toSorted()).toEqual(['200', '201'])
    expect((await server.stop()).code).toBe(0)
  } finally {
    await server.kill9()
  }
})

afterAll(() => console.table(table))

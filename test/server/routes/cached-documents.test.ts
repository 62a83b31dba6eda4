import type { FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Pool } from '../../../src/server/db/pool.js'
import { testDatabase } from '../../support/database.js'
import { until } from '../../support/follower.js'
import { type Answer, bodies, call } from '../../support/http.js'
import { atEndOfFile } from '../../support/leaks.js'
import { readMetrics } from '../../support/metrics.js'
import { type StoreProxy, startProxy } from '../../support/proxy.js'
import { testServer } from '../../support/server.js'

const COLLECTION = '/api/v1/agent_tasks'
const url = `${COLLECTION}/t1`
const body = (agent: string) => ({ ...bodies.agent_tasks, agent_id: agent })

const hits = async (app: FastifyInstance) => (await readMetrics(app)).get('dualstore_cache_hits_total') ?? 0
const agentIn = async (app: FastifyInstance) => (await call(app, 'GET', url)).json.data?.agent_id

/** Asks until the cache answers. */
async function warm(app: FastifyInstance): Promise<void> {
  const before = await hits(app)
  await until(async () => {
    expect((await call(app, 'GET', url)).status).toBe(200)
    return (await hits(app)) > before
  })
}

describe('two servers on one database', () => {
  let pool: Pool
  let proxy: StoreProxy
  let app: FastifyInstance
  let other: FastifyInstance

  beforeAll(async () => {
    const database = await testDatabase()
    const { url: databaseUrl } = database
    pool = database.pool
    proxy = await startProxy(databaseUrl)
    atEndOfFile(() => proxy.close())
    app = await testServer('embedded', {
      databaseUrl: proxy.through(databaseUrl),
      dualWriteEnabled: false,
    })
    other = await testServer('embedded', { databaseUrl, dualWriteEnabled: false })
  })

  test('an answer from the cache is the same in every header, and 304 for who has it', async () => {
    const first = await call(app, 'PUT', url, { body: body('pending') })
    await warm(app)
    const { 'x-request-id': _id, date: _date, ...cached } = (await call(app, 'GET', url)).headers
    expect(cached).toMatchObject({ etag: first.headers.etag, 'cache-control': 'private, no-cache' })
    const uncached = await call(other, 'GET', url)
    expect(uncached.headers).toMatchObject(cached)
    expect((await call(app, 'GET', url)).text).toBe(uncached.text)

    const before = await hits(app)
    for (const tag of ['"1"', 'W/"1"', '"7", "1"', '*']) {
      const known = await call(app, 'GET', url, { headers: { 'if-none-match': tag } })
      expect([known.status, known.text, known.headers.etag]).toEqual([304, '', '"1"'])
    }
    expect((await call(app, 'GET', url, { headers: { 'if-none-match': '"2"' } })).status).toBe(200)
    const head = await call(app, 'HEAD', url)
    expect([head.status, head.text, head.headers.etag]).toEqual([200, '', '"1"'])
    expect(head.headers['content-length']).toBe(cached['content-length'])
    expect(await hits(app)).toBe(before + 6)
  })

  test('every kind of write of its own is answered at once', async () => {
    const operations = (item: object) => ({ operations: [{ op: 'put', id: 't1', item }] })
    const line = (agent: string) => JSON.stringify({ id: 't1', ...body(agent) })
    const ndjson = { 'content-type': 'application/x-ndjson' }
    const writes: Record<string, () => Promise<Answer>> = {
      put: () => call(app, 'PUT', url, { body: body('put') }),
      patch: () => call(app, 'PATCH', url, { body: { agent_id: 'patch' } }),
      batch: () => call(app, 'POST', `${COLLECTION}/batch`, { body: operations(body('batch')) }),
      import: () =>
        call(app, 'POST', `${COLLECTION}/import?on_conflict=replace`, {
          body: line('import'),
          headers: ndjson,
        }),
    }
    for (const [agent, write] of Object.entries(writes)) {
      await warm(app)
      expect((await write()).status).toBe(200)
      expect(await agentIn(app)).toBe(agent)
    }
    await warm(app)
    await call(app, 'DELETE', url)
    expect((await call(app, 'GET', url)).status).toBe(404)
    await call(app, 'PUT', url, { body: body('anew') })
    expect(await agentIn(app)).toBe('anew')
  })

  test('writes of another instance and of psql are seen when the log is read', async () => {
    await warm(app)
    await call(other, 'PUT', url, { body: body('other') })
    await until(async () => (await agentIn(app)) === 'other')
    await warm(app)
    await pool.query(`UPDATE dualstore.documents SET item = item || '{"agent_id": "psql"}' WHERE id = 't1'`)
    await until(async () => (await agentIn(app)) === 'psql')
  })

  test('who names a store, or a position, is not answered from the cache', async () => {
    const { headers } = await call(app, 'PUT', url, { body: body('pending') })
    await warm(app)
    const before = await hits(app)
    const position = { 'x-dualstore-wait-for': headers['x-dualstore-position'] ?? '' }
    expect((await call(app, 'GET', url, { headers: position })).status).toBe(200)
    const mirror = { 'x-dualstore-read-from': 'mirror' }
    expect((await call(app, 'GET', url, { headers: mirror })).status).toBe(503)
    expect(await hits(app)).toBe(before)
  })

  test('a server that cannot read the log does not answer from the cache', async () => {
    await warm(app)
    proxy.freeze()
    await until(async () => (await call(app, 'GET', url)).status === 503)
    await pool.query(
      `UPDATE dualstore.documents SET item = item || '{"agent_id": "meanwhile"}' WHERE id = 't1'`,
    )
    proxy.restore()
    // A reading of the log counts for a second, which an outage may be shorter than.
    await until(
      async () => (await call(app, 'GET', url)).status === 200 && (await agentIn(app)) === 'meanwhile',
    )
    await warm(app)
  })

  test('a collection that is dropped and made anew holds nothing of before', async () => {
    const definition = { name: 'notes', schema: { type: 'object' } }
    const note = '/api/v1/notes/n1'
    for (const _round of [1, 2]) {
      expect((await call(app, 'POST', '/api/v1/collections', { body: definition })).status).toBe(201)
      expect((await call(app, 'GET', note)).status).toBe(404)
      await call(app, 'PUT', note, { body: { a: 1 } })
      const before = await hits(app)
      await until(async () => (await call(app, 'GET', note)).status === 200 && (await hits(app)) > before)
      expect((await call(app, 'DELETE', '/api/v1/collections/notes?confirm=notes')).status).toBe(200)
      expect((await call(app, 'GET', note)).json.code).toBe('COLLECTION_NOT_FOUND')
    }
  })
})

test('what a key may not read, it is not answered from the cache either', async () => {
  const app = await testServer('embedded', { dualWriteEnabled: false, authBearerToken: 'legacy' })
  const admin = { authorization: 'Bearer legacy' }
  const key = async (more: object) => {
    const made = await call(app, 'POST', '/api/v1/keys', {
      headers: admin,
      body: { name: 'k', role: 'reader', ...more },
    })
    expect(made.status, made.text).toBe(201)
    return { authorization: `Bearer ${made.json.data.key}` }
  }
  const inside = await key({ rows: { agent_id: 'pending' } })
  const outside = await key({ rows: { agent_id: 'done' } })
  const elsewhere = await key({ scopes: { read: ['session_messages'], write: [] } })
  await call(app, 'PUT', url, { headers: admin, body: body('pending') })
  const hitsNow = async () => (await readMetrics(app, admin)).get('dualstore_cache_hits_total') ?? 0
  await until(
    async () => (await call(app, 'GET', url, { headers: admin })).status === 200 && (await hitsNow()) > 0,
  )
  const statuses = await Promise.all(
    [inside, outside, elsewhere].map(async (headers) => (await call(app, 'GET', url, { headers })).status),
  )
  expect(statuses).toEqual([200, 404, 403])
})

test('it can be switched off', async () => {
  const app = await testServer('embedded', { dualWriteEnabled: false, cacheMaxBytes: 0 })
  await call(app, 'PUT', url, { body: body('pending') })
  for (let asked = 0; asked < 3; asked++) expect((await call(app, 'GET', url)).status).toBe(200)
  expect((await readMetrics(app)).has('dualstore_cache_hits_total')).toBe(false)
})

import type { FastifyInstance } from 'fastify'
import { describe, expect, test } from 'vitest'
import { until } from '../../support/follower.js'
import { bodies, call, create, expectError } from '../../support/http.js'
import { mongoIsAvailable } from '../../support/mongo.js'
import { mirrorKinds, testServer } from '../../support/server.js'

const POSITION = /^[0-9a-f]{8}-\d+$/
const seq = (position: string | undefined) => Number(position?.split('-')[1])
const item = bodies.agent_tasks!
const parsed = (text: string): { id: string }[] =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
const ndjson = (items: readonly object[]) => items.map((one) => `${JSON.stringify(one)}\n`).join('')
const importing = (app: FastifyInstance, items: readonly object[], headers: Record<string, string> = {}) =>
  call(app, 'POST', '/api/v1/agent_tasks/import', {
    headers: { 'content-type': 'application/x-ndjson', ...headers },
    body: ndjson(items),
  })
const order = (app: FastifyInstance, what: string, body?: object) =>
  call(app, 'POST', `/api/v1/dualstore/mirrors/mirror/${what}`, { ...(body && { body }) })
const state = async (app: FastifyInstance) =>
  (await call(app, 'GET', '/api/v1/dualstore/status')).json.data.mirrors[0]?.state

const kinds = (await mongoIsAvailable()) ? mirrorKinds : (['embedded'] as const)

describe.each(kinds)('%s mirror', async (kind) => {
  const app = await testServer(kind, { databaseStatementTimeoutMs: 20_000, waitTimeoutMs: 20_000 })

  test('every write tells its place in the log, and what is read behind it there has the write', async () => {
    const at = async (method: string, path: string, options: Parameters<typeof call>[3] = {}) => {
      const answer = await call(app, method, `/api/v1/agent_tasks${path}`, options)
      expect(answer.status, answer.text).toBeLessThan(300)
      expect(answer.headers['x-dualstore-position'], `${method} ${path}`).toMatch(POSITION)
      return answer.headers['x-dualstore-position'] as string
    }
    const mirrored = async (path: string, position: string, method = 'GET') => {
      const headers = { 'x-dualstore-read-from': 'mirror', 'x-dualstore-wait-for': position }
      const answer = await call(app, method, `/api/v1/agent_tasks${path}`, { headers })
      if (answer.status === 200) expect(answer.headers['x-dualstore-source']).toBe('mirror')
      return answer
    }
    let last = await at('POST', '', { body: { ...item, id: 'one' } })
    expect((await mirrored('/one', last)).json.data).toMatchObject(item)
    last = await at('PATCH', '/one', { body: { status: 'running' } })
    expect((await mirrored('/one', last, 'HEAD')).headers.etag).toBe('"2"')
    last = await at('PUT', '/two', { body: item })
    expect((await mirrored('?sort_by=id', last)).json.pagination.total).toBe(2)
    const operations = [
      { op: 'create', item: { ...item, id: 'three' } },
      { op: 'delete', id: 'one' },
      { op: 'delete', id: 'missing' },
    ]
    const before = seq(last)
    last = await at('POST', '/batch', { body: { operations } })
    expect(seq(last)).toBe(before + 2)
    expect((await mirrored('/one', last)).status).toBe(404)
    const imported = await importing(app, [{ ...item, id: 'four' }, { ...item, id: 'five' }, { wrong: true }])
    last = imported.headers['x-dualstore-position'] as string
    expect(imported.json.data).toMatchObject({ created: 2, failed: 1, position: last })
    const exported = await mirrored('/export?filter={"status":"pending"}', last)
    expect(parsed(exported.text).map(({ id }) => id)).toEqual(['five', 'four', 'three', 'two'])
    expect(parsed(exported.text)).toEqual(parsed((await call(app, 'GET', '/api/v1/agent_tasks/export')).text))
    expectError(await mirrored('/export?q=words', last), 400, 'INVALID_REQUEST')
    last = await at('DELETE', '/two')
    expect((await mirrored('/two', last)).status).toBe(404)
  })

  test('a batch that writes nothing has no place; a replayed create has one that covers it', async () => {
    const none = await call(app, 'POST', '/api/v1/agent_tasks/batch', {
      body: { operations: [{ op: 'delete', id: 'never' }] },
    })
    expect(none.headers['x-dualstore-position']).toBeUndefined()
    const repeat = () =>
      call(app, 'POST', '/api/v1/agent_tasks', { body: item, headers: { 'idempotency-key': `once-${kind}` } })
    const [first, again] = [await repeat(), await repeat()]
    expect(again.json).toEqual(first.json)
    expect(seq(again.headers['x-dualstore-position'])).toBeGreaterThanOrEqual(
      seq(first.headers['x-dualstore-position']),
    )
  })

  test('dropping a collection tells from where on its documents are gone', async () => {
    await call(app, 'POST', '/api/v1/collections', {
      body: { name: 'shortlived', schema: { type: 'object' } },
    })
    await create(app, 'shortlived', { id: 'a' })
    const dropped = await call(app, 'DELETE', '/api/v1/collections/shortlived?confirm=shortlived')
    expect(dropped.headers['x-dualstore-position']).toMatch(POSITION)
  })

  test('strict: the mirror has the write when it is answered, imports and batches too', async () => {
    const headers = { 'x-dualstore-consistency': 'strict' }
    const has = async (id: string) =>
      (
        await call(app, 'GET', `/api/v1/agent_tasks/${id}`, {
          headers: { 'x-dualstore-read-from': 'mirror' },
        })
      ).status
    await call(app, 'PUT', '/api/v1/agent_tasks/s1', { body: item, headers })
    expect(await has('s1')).toBe(200)
    expect((await importing(app, [{ ...item, id: 's2' }], headers)).json.data).toMatchObject({ created: 1 })
    expect(await has('s2')).toBe(200)
    const operations = [{ op: 'put', id: 's3', item }]
    await call(app, 'POST', '/api/v1/agent_tasks/batch', { body: { operations }, headers })
    expect(await has('s3')).toBe(200)
  })

  test('while it is paused a strict write is refused before anything is written, and says why', async () => {
    const paused = await order(app, 'pause', { reason: 'for a test' })
    expect(paused.json.data).toMatchObject({ name: 'mirror', state: 'paused', reason: 'for a test' })
    const headers = { 'x-dualstore-consistency': 'strict' }
    const strict = () => call(app, 'PUT', '/api/v1/agent_tasks/p1', { body: item, headers })
    // The instance that was asked hears of it at once, like every other.
    await until(async () => (await strict()).status === 503)
    const refused = await strict()
    expectError(refused, 503, 'MIRROR_UNAVAILABLE')
    expect(refused.json.message).toContain('is paused: for a test')
    expectError(await importing(app, [{ ...item, id: 'p2' }], headers), 503, 'MIRROR_UNAVAILABLE')
    expect((await call(app, 'GET', '/api/v1/agent_tasks/p2')).status).toBe(404)
    const eventual = await call(app, 'PUT', '/api/v1/agent_tasks/p3', { body: item })
    expect(eventual.status).toBe(201)
    const read = await call(app, 'GET', '/api/v1/agent_tasks/p3', {
      headers: {
        'x-dualstore-read-from': 'mirror',
        'x-dualstore-wait-for': eventual.headers['x-dualstore-position'] ?? '',
      },
    })
    expectError(read, 503, 'MIRROR_UNAVAILABLE')
    expect((await order(app, 'resume')).status).toBe(200)
    await until(async () => (await strict()).status < 300)
    expect(await state(app)).toBe('running')
  })
})

test('a write is eventual unless the setting says strict, and a request may say otherwise', async () => {
  const app = await testServer('embedded', { dualWriteConsistency: 'strict' })
  expect((await call(app, 'PUT', '/api/v1/agent_tasks/a', { body: item })).status).toBe(201)
  await order(app, 'pause')
  const put = (headers: Record<string, string> = {}) =>
    call(app, 'PUT', '/api/v1/agent_tasks/a', { body: item, headers })
  await until(async () => (await put()).status === 503)
  expect((await put({ 'x-dualstore-consistency': 'eventual' })).status).toBe(200)
  expectError(await importing(app, [{ ...item, id: 'b' }]), 503, 'MIRROR_UNAVAILABLE')
})

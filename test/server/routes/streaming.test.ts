import type { FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Pool } from '../../../src/server/db/pool.js'
import { ofType, openStream, type StreamEvent, type TestStream } from '../../support/event-stream.js'
import { bodies, call, create, LEGACY, withQuery } from '../../support/http.js'
import { listeningServer } from '../../support/server.js'

const message = bodies.session_messages ?? {}
const task = bodies.agent_tasks ?? {}

let app: FastifyInstance
let base: string
let pool: Pool
beforeAll(async () => {
  ;({ app, base, pool } = await listeningServer({ streamMaxConnectionsPerAddress: 100 }))
})

const open = (path: string, query: Record<string, string> = {}, headers: Record<string, string> = {}) =>
  openStream(withQuery(`${base}/api/v1/stream${path}`, query), headers)
const ready = async (stream: TestStream) => (await stream.until(ofType('ready'))).data.data.position as string
const head = async () => (await call(app, 'GET', '/api/v1/agent_tasks/changes')).json.position as string
const patch = async (collection: string, id: string, body: object) =>
  (await call(app, 'PATCH', `/api/v1/${collection}/${id}`, { body })).headers['x-dualstore-position'] ?? ''
const remove = async (collection: string, id: string) =>
  (await call(app, 'DELETE', `/api/v1/${collection}/${id}`)).headers['x-dualstore-position'] ?? ''
const atPosition = (position: string) => (event: StreamEvent) => event.data.position === position
const types = (stream: TestStream) => stream.changes().map(({ data }) => [data.type, data.data.id])

describe('the legacy route', () => {
  test('sends connection, ready, then each change with the legacy envelope and an id', async () => {
    const stream = await open('/agent_tasks')
    await ready(stream)
    const made = await create(app, 'agent_tasks', task)
    await patch('agent_tasks', made.id, { status: 'running' })
    const last = await remove('agent_tasks', made.id)
    await stream.until(atPosition(last))
    expect(stream.events.map(({ event }) => event)).toEqual([
      'connection',
      'ready',
      'insert',
      'update',
      'delete',
    ])
    const [connection, , insert, update, gone] = stream.events
    expect(connection?.data).toMatchObject({
      collection: 'agent_tasks',
      data: { client_id: expect.any(String), connected: true, timestamp: expect.any(String) },
      timestamp: expect.any(String),
    })
    expect(insert).toMatchObject({
      id: insert?.data.position,
      data: { type: 'insert', collection: 'agent_tasks', data: made, version: 1 },
    })
    expect(insert?.data.timestamp).toMatch(/^\d{4}-.*Z$/)
    expect(update?.data).toMatchObject({ data: { id: made.id, status: 'running' }, version: 2 })
    expect(gone).toMatchObject({ id: last, data: { data: { id: made.id, status: 'running' }, version: 2 } })
    expect(stream.events.filter(({ id }) => id !== undefined)).toHaveLength(3)
    expect(stream.retry).toBeGreaterThan(0)
    stream.close()
  })

  test('answers with the headers of the legacy server', async () => {
    const stream = await open('/agent_tasks')
    expect(stream.headers).toMatchObject({
      'content-type': 'text/event-stream',
      'cache-control': 'no-cache',
      connection: 'keep-alive',
      'access-control-allow-origin': '*',
      'x-request-id': expect.any(String),
    })
    stream.close()
  })

  test('format=message puts the type inside and leaves the name away', async () => {
    const stream = await open('/agent_tasks', { format: 'message' })
    await ready(stream)
    const made = await create(app, 'agent_tasks', task)
    await stream.until(ofType('insert'))
    expect(stream.events.map(({ event }) => event)).toEqual([undefined, undefined, undefined])
    expect(stream.events.map(({ data }) => data.type)).toEqual(['connection', 'ready', 'insert'])
    expect(stream.events[0]?.data.data.message).toBe('Connected to agent_tasks stream')
    expect(stream.events[2]?.data.data).toEqual(made)
    stream.close()
  })

  test('speaks HTTP/1.0 to proxies that know no chunks', async () => {
    const { connect } = await import('node:net')
    const { hostname, port } = new URL(base)
    const socket = connect(Number(port), hostname)
    socket.setEncoding('utf8')
    let text = ''
    socket.write('GET /api/v1/stream/agent_tasks HTTP/1.0\r\nHost: a\r\n\r\n')
    for await (const part of socket) {
      text += part
      if (text.includes('event: ready') && !text.includes('event: insert'))
        await create(app, 'agent_tasks', task)
      if (/event: insert\ndata: .*\n\n/.test(text)) break
    }
    expect(text).not.toMatch(/transfer-encoding/i)
    expect(text).toMatch(/\r\n\r\nretry: \d+\n\nevent: connection\ndata: /)
  })
})

describe('several collections', () => {
  test('are one stream in the order of the log', async () => {
    const stream = await open('', { collections: 'agent_tasks,session_messages' })
    await ready(stream)
    const made = []
    for (const collection of [...LEGACY, ...LEGACY]) {
      made.push([collection, (await create(app, collection, bodies[collection] ?? {})).id])
    }
    const last = await create(app, 'agent_tasks', task)
    await stream.until(({ data }) => data.data.id === last.id)
    const seen = stream.changes().map(({ data }) => [data.collection, data.data.id])
    expect(seen).toEqual([
      ...made.filter(([collection]) => collection !== 'opencode_events'),
      ['agent_tasks', last.id],
    ])
    stream.close()
  })

  test('none named means all, those made later too', async () => {
    const stream = await open('')
    await ready(stream)
    await call(app, 'POST', '/api/v1/collections', {
      body: { name: 'later', schema: { type: 'object' }, id_prefix: 'l' },
    })
    await create(app, 'later', { id: 'l1' })
    await create(app, 'agent_tasks', task)
    await stream.until(({ data }) => data.collection === 'agent_tasks' && data.type === 'insert')
    expect(stream.changes().map(({ data }) => data.collection)).toEqual(['later', 'agent_tasks'])
    stream.close()
  })
})

describe('filters', () => {
  test('a document that enters is inserted, one that leaves is deleted as it last matched', async () => {
    const filter = JSON.stringify({ status: 'running', progress: { $gte: 10 } })
    const stream = await open('/agent_tasks', { filter, session_id: 'mine' })
    await ready(stream)
    const mine = { ...task, session_id: 'mine' }
    const a = await create(app, 'agent_tasks', { ...mine, status: 'pending' })
    const b = await create(app, 'agent_tasks', { ...mine, status: 'running', progress: 50 })
    await create(app, 'agent_tasks', { ...task, status: 'running', progress: 50, session_id: 'other' })
    await patch('agent_tasks', a.id, { status: 'running', progress: 20 })
    await patch('agent_tasks', a.id, { progress: 30 })
    await patch('agent_tasks', a.id, { progress: 5 })
    await patch('agent_tasks', a.id, { progress: 6 })
    await remove('agent_tasks', a.id)
    const last = await remove('agent_tasks', b.id)
    await stream.until(atPosition(last))
    expect(types(stream)).toEqual([
      ['insert', b.id],
      ['insert', a.id],
      ['update', a.id],
      ['delete', a.id],
      ['delete', b.id],
    ])
    expect(stream.changes()[3]?.data.data).toMatchObject({ status: 'running', progress: 30 })
    stream.close()
  })

  test('a replacement by PUT and one by import are seen with what was before', async () => {
    const stream = await open('/agent_tasks', { filter: '{"status":"completed"}' })
    await ready(stream)
    await call(app, 'PUT', '/api/v1/agent_tasks/put1', { body: { ...task, status: 'completed' } })
    await call(app, 'PUT', '/api/v1/agent_tasks/put1', { body: { ...task, status: 'failed' } })
    const items = ['completed', 'running'].map((status) => JSON.stringify({ ...task, id: 'imp1', status }))
    for (const item of items) {
      await call(app, 'POST', '/api/v1/agent_tasks/import?on_conflict=replace', {
        headers: { 'content-type': 'application/x-ndjson' },
        body: item,
      })
    }
    await stream.until(({ data }) => data.type === 'delete' && data.data.id === 'imp1')
    expect(types(stream)).toEqual([
      ['insert', 'put1'],
      ['delete', 'put1'],
      ['insert', 'imp1'],
      ['delete', 'imp1'],
    ])
    stream.close()
  })

  test('many documents changed by one statement each keep their own past', async () => {
    const items = Array.from({ length: 300 }, (_, n) => ({ ...task, id: `bulk${n}`, status: 'pending' }))
    await call(app, 'POST', '/api/v1/agent_tasks/batch', {
      body: { operations: items.map((item) => ({ op: 'create', item })) },
    })
    const stream = await open('/agent_tasks', { filter: '{"progress":{"$lt":100},"session_id":"ses_1"}' })
    await ready(stream)
    await pool.query(
      `UPDATE dualstore.documents SET item = item || jsonb_build_object('progress', substr(id, 5)::int)
       WHERE collection = 'agent_tasks' AND id LIKE 'bulk%'`,
    )
    await pool.query(
      `UPDATE dualstore.documents SET item = item || '{"progress": 100}'
       WHERE collection = 'agent_tasks' AND id LIKE 'bulk%'`,
    )
    const last = await create(app, 'agent_tasks', { ...task, progress: 1 })
    await stream.until(({ data }) => data.data.id === last.id)
    const deleted = stream.changes().filter(({ data }) => data.type === 'delete')
    expect(deleted).toHaveLength(100)
    for (const { data } of deleted) expect(data.data.id).toBe(`bulk${data.data.progress}`)
    stream.close()
  })
})

describe('coming back', () => {
  test('with Last-Event-ID the stream goes on behind it', async () => {
    const first = await open('/agent_tasks')
    await ready(first)
    const ids: string[] = []
    for (let n = 0; n < 5; n++) ids.push((await create(app, 'agent_tasks', task)).id)
    const second = await first.until(({ data }) => data.data.id === ids[1])
    first.close()
    for (const [headers, query] of [
      [{ 'last-event-id': second.id ?? '' }, {}],
      [{}, { last_event_id: second.id ?? '' }],
      // The header is the newer one: an EventSource keeps the address it was made with.
      [{ 'last-event-id': second.id ?? '' }, { last_event_id: await head() }],
    ] as const) {
      const again = await open('/agent_tasks', query, headers)
      await ready(again)
      expect(again.changes().map(({ data }) => data.data.id)).toEqual(ids.slice(2))
      expect(again.events.at(-1)?.data.type).toBe('ready')
      again.close()
    }
  })

  test('from the beginning of the log reads more than fits in memory or one page, in order', async () => {
    const count = 2500
    const start = await head()
    await pool.query(
      `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
       SELECT 'agent_tasks', 'many' || n, jsonb_build_object('id', 'many' || n, 'n', n), 1, 1
       FROM generate_series(1, $1) n`,
      [count],
    )
    const stream = await open('/agent_tasks', { last_event_id: start })
    await ready(stream)
    expect(stream.changes().map(({ data }) => data.data.n)).toEqual(
      Array.from({ length: count }, (_, n) => n + 1),
    )
    stream.close()
  })

  test.each([
    ['another log', () => '00000000-1', 'other_log'],
    ['the future', async () => `${(await head()).split('-')[0]}-999999999`, 'ahead'],
    ['no position at all', () => 'legacy-17', 'unknown'],
  ])('with a position of %s it is told to start over, and goes on', async (_, position, reason) => {
    const requested = await position()
    const stream = await open('/agent_tasks', {}, { 'last-event-id': requested })
    const reset = await stream.until(ofType('reset'))
    expect(reset.data.data).toEqual({ reason, requested, position: await head() })
    expect(reset.id).toBeUndefined()
    await ready(stream)
    const made = await create(app, 'agent_tasks', task)
    await stream.until(({ data }) => data.data.id === made.id)
    expect(stream.changes()).toHaveLength(1)
    stream.close()
  })

  test('with a useless position and from=snapshot it is told, and sent everything', async () => {
    await create(app, 'session_messages', { ...message, session_id: 'reset-snapshot' })
    const query = { from: 'snapshot', session_id: 'reset-snapshot' }
    const stream = await open('/session_messages', query, { 'last-event-id': '00000000-1' })
    await ready(stream)
    expect(stream.events.map(({ data }) => data.type)).toEqual(['connection', 'reset', 'insert', 'ready'])
    stream.close()
  })
})

describe('bad requests', () => {
  test.each([
    ['/agent_tasks?last_event_id=nonsense', 400, 'query.last_event_id'],
    ['/agent_tasks?from=yesterday', 400, 'query.from'],
    ['/agent_tasks?format=xml', 400, 'query.format'],
    ['/agent_tasks?q=words', 400, 'query.q'],
    ['/agent_tasks?filter={', 400, 'query.filter'],
    ['/agent_tasks?created_after=soon', 400, 'query.created_after'],
    ['?collections=,', 400, 'query.collections'],
    ['/nowhere', 404, 'nowhere'],
    ['?collections=agent_tasks,nowhere', 404, 'nowhere'],
  ])('%s is refused before the stream begins', async (path, status, named) => {
    const stream = await open(path.replace('{', '%7B'))
    expect(stream.status).toBe(status)
    const body = JSON.parse(stream.body)
    expect(body).toMatchObject({ success: false, code: expect.any(String) })
    expect(body.message).toContain(named)
  })
})

import type { FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import { bodies, call, create, expectError, fromMirror, LEGACY, withQuery } from '../../support/http.js'
import { mirrorKinds, testServer } from '../../support/server.js'

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
const list = (app: FastifyInstance, collection: string, query: Record<string, string | number> = {}) =>
  call(app, 'GET', withQuery(`/api/v1/${collection}`, query))

const full = {
  session_messages: {
    session_id: 'ses_full',
    role: 'assistant',
    content: 'päth 漢 😀 "q" \\ \n',
    metadata: { model: 'm', nested: { deep: [1, null, { x: 'y' }] }, updated_at: 'mine', empty: {} },
  },
  agent_tasks: {
    session_id: 'ses_full',
    agent_id: 'agent',
    task_type: 'review',
    status: 'failed',
    input_data: { a: [1, 2.5, -0.25], 'b.c': null },
    output_data: { ok: false },
    error_message: 'no',
    progress: 99.5,
  },
  opencode_events: {
    event_type: 'message.updated',
    event_data: { properties: { info: { id: 'x', parts: [{ type: 'text' }] } } },
    source: 'opencode',
    session_id: 'ses_full',
    severity: 'critical',
  },
} as const

const notFoundTexts = {
  session_messages: 'Session message not found',
  agent_tasks: 'Agent task not found',
  opencode_events: 'Opencode event not found',
} as const
const prefixes = { session_messages: 'msg', agent_tasks: 'task', opencode_events: 'event' } as const

describe.each(mirrorKinds)('the legacy contract with the %s mirror', (kind) => {
  let app: FastifyInstance
  beforeAll(async () => {
    app = await testServer(kind)
  })

  test('/ tells name, description, version and endpoints', async () => {
    const answer = await call(app, 'GET', '/')
    expect(answer.status).toBe(200)
    expect(answer.json).toEqual({
      name: expect.any(String),
      description: expect.any(String),
      version: '1.0.0',
      endpoints: { collections: '/api/v1', streaming: '/api/v1/stream', health: '/health' },
    })
  })

  test('/health has the legacy body and its stores', async () => {
    const answer = await call(app, 'GET', '/health')
    expect(answer.status).toBe(200)
    expect(answer.json).toEqual({
      status: 'ok',
      timestamp: expect.stringMatching(ISO),
      uptime: expect.any(Number),
      version: '1.0.0',
      stores: { sessionMessages: true, agentTasks: true, opencodeEvents: true },
    })
  })

  describe.each(LEGACY)('%s', (collection) => {
    test('POST answers 201 with the whole item, its id and its times', async () => {
      const before = Date.now()
      const answer = await call(app, 'POST', `/api/v1/${collection}`, { body: full[collection] })
      expect(answer.status).toBe(201)
      expect(answer.headers['content-type']).toBe('application/json; charset=utf-8')
      const { id, created_at, updated_at, ...rest } = answer.json.data
      expect(Object.keys(answer.json)).toEqual(['success', 'data'])
      expect(answer.json.success).toBe(true)
      expect(rest).toEqual(full[collection])
      expect(id).toMatch(new RegExp(`^${prefixes[collection]}_\\d{13}_[0-9a-z]{9}$`))
      expect(created_at).toMatch(ISO)
      expect(updated_at).toBe(created_at)
      expect(Date.parse(created_at)).toBeGreaterThanOrEqual(before)
      expect(Date.parse(created_at)).toBeLessThanOrEqual(Date.now())
    })

    test('GET by id answers exactly {success, data}, nothing emptied, from both stores (defect 4)', async () => {
      const item = await create(app, collection, full[collection])
      const url = `/api/v1/${collection}/${item.id}`
      const answer = await call(app, 'GET', url)
      expect(answer.status).toBe(200)
      expect(answer.json).toEqual({ success: true, data: item })
      expect(item).toMatchObject(full[collection])
      const mirrored = await call(app, 'GET', url, { headers: await fromMirror(app, collection) })
      expect(mirrored.json).toEqual({ success: true, data: item })
    })

    test('GET of an unknown id answers 404 with the legacy text', async () => {
      for (const method of ['GET', 'DELETE', 'PATCH']) {
        const answer = await call(app, method, `/api/v1/${collection}/nothing`, {
          ...(method === 'PATCH' && { body: {} }),
        })
        expectError(answer, 404, 'NOT_FOUND')
        expect(answer.json.error).toBe(notFoundTexts[collection])
      }
    })

    test.each(Object.keys(bodies[collection] ?? {}))('POST without %s is 400 and names it', async (field) => {
      const { [field]: _left, ...body } = bodies[collection] ?? {}
      const answer = await call(app, 'POST', `/api/v1/${collection}`, { body })
      expectError(answer, 400, 'INVALID_REQUEST')
      expect(answer.json.details).toEqual([{ field: `body.${field}`, message: 'is required' }])
    })

    test('ids of a list answer by id (defect 2)', async () => {
      await create(app, collection, full[collection])
      const page = await list(app, collection, { limit: 1 })
      const [item] = page.json.data
      const answer = await call(app, 'GET', `/api/v1/${collection}/${item.id}`)
      expect(answer.json.data).toEqual(item)
    })

    test('a client-sent id is taken, its created_at and updated_at are not (defect 6)', async () => {
      const id = `mine-${collection}`
      const times = { created_at: '2001-01-01T00:00:00.000Z', updated_at: '2001-01-01T00:00:00.000Z' }
      const item = await create(app, collection, { ...bodies[collection], id, ...times })
      expect(item.id).toBe(id)
      expect(Date.parse(item.created_at)).toBeGreaterThan(Date.parse('2020-01-01'))
      expect(item.updated_at).toBe(item.created_at)
      expect((await call(app, 'GET', `/api/v1/${collection}/${id}`)).json.data).toEqual(item)
      const again = await call(app, 'POST', `/api/v1/${collection}`, { body: { ...bodies[collection], id } })
      expectError(again, 409, 'ALREADY_EXISTS')
    })

    test('an update changes the one document, in both stores (defect 1)', async () => {
      const { id } = await create(app, collection, bodies[collection] ?? {})
      const url = `/api/v1/${collection}/${id}`
      const changed = await call(app, 'PATCH', url, { body: { note: 'new' } })
      expect(changed.json.data.note).toBe('new')
      const filter = JSON.stringify({ id })
      const stored = await list(app, collection, { filter })
      expect(stored.json.data).toEqual([changed.json.data])
      const mirrored = await call(app, 'GET', withQuery(`/api/v1/${collection}`, { filter }), {
        headers: await fromMirror(app, collection),
      })
      expect(mirrored.json.data).toEqual([changed.json.data])
      expect(mirrored.json.pagination.total).toBe(1)
    })

    test('delete deletes, in both stores (defect 5)', async () => {
      const { id } = await create(app, collection, bodies[collection] ?? {})
      const url = `/api/v1/${collection}/${id}`
      const answer = await call(app, 'DELETE', url)
      expect(answer.status).toBe(200)
      expect(answer.json).toEqual({ success: true, data: { id } })
      expectError(await call(app, 'GET', url), 404)
      expectError(await call(app, 'DELETE', url), 404)
      expectError(await call(app, 'GET', url, { headers: await fromMirror(app, collection) }), 404)
    })
  })

  test.each([
    ['session_messages', { role: 'robot' }, 'body.role', 'user, assistant, system'],
    ['session_messages', { content: 1 }, 'body.content', 'string'],
    ['session_messages', { metadata: [] }, 'body.metadata', 'object'],
    ['session_messages', { session_id: null }, 'body.session_id', 'string'],
    ['agent_tasks', { status: 'done' }, 'body.status', 'pending, running, completed, failed'],
    ['agent_tasks', { progress: 100.5 }, 'body.progress', '100'],
    ['agent_tasks', { progress: -1 }, 'body.progress', '0'],
    ['agent_tasks', { progress: '50' }, 'body.progress', 'number'],
    ['agent_tasks', { input_data: 'x' }, 'body.input_data', 'object'],
    ['agent_tasks', { error_message: 5 }, 'body.error_message', 'string'],
    ['opencode_events', { severity: 'fatal' }, 'body.severity', 'info, warning, error, debug, critical'],
    ['opencode_events', { event_data: 'x' }, 'body.event_data', 'object'],
    ['opencode_events', { source: {} }, 'body.source', 'string'],
  ])('%s refuses %j with 400 (defect 5)', async (collection, change, field, message) => {
    const answer = await call(app, 'POST', `/api/v1/${collection}`, {
      body: { ...bodies[collection], ...change },
    })
    expectError(answer, 400, 'INVALID_REQUEST')
    expect(answer.json.details).toEqual([{ field, message: expect.stringContaining(message) }])
  })

  test('an unknown collection is 404', async () => {
    expectError(await call(app, 'GET', '/api/v1/nothing'), 404, 'COLLECTION_NOT_FOUND')
    expectError(await call(app, 'POST', '/api/v1/nothing', { body: {} }), 404, 'COLLECTION_NOT_FOUND')
  })

  test('an unknown route is 404 in the same envelope', async () => {
    for (const url of ['/nothing', '/api/v1', '/api/v1/agent_tasks/a/b/c'])
      expectError(await call(app, 'GET', url), 404, 'NOT_FOUND')
  })
})

describe('lists', () => {
  let app: FastifyInstance
  const times = ['00', '01', '02', '03', '04'].map((second) => `2024-05-06T07:08:${second}.500Z`)

  beforeAll(async () => {
    app = await testServer()
    const lines = times.map((created_at, index) =>
      JSON.stringify({
        ...bodies.agent_tasks,
        id: `t${index}`,
        created_at,
        session_id: index % 2 === 0 ? 'even' : 'odd',
        progress: (index * 37) % 50,
      }),
    )
    const imported = await call(app, 'POST', '/api/v1/agent_tasks/import', {
      body: lines.join('\n'),
      headers: { 'content-type': 'application/x-ndjson' },
    })
    expect(imported.json.data.created).toBe(5)
  })

  const ids = async (query: Record<string, string | number>) =>
    (await list(app, 'agent_tasks', query)).json.data.map((item: { id: string }) => item.id)

  test('the default is the newest first, 50 from the start', async () => {
    const answer = await list(app, 'agent_tasks')
    expect(answer.json.data.map((item: { id: string }) => item.id)).toEqual(['t4', 't3', 't2', 't1', 't0'])
    expect(answer.json.pagination).toEqual({
      total: 5,
      limit: 50,
      offset: 0,
      has_more: false,
      next_cursor: null,
    })
    expect(Object.keys(answer.json)).toEqual(['success', 'data', 'pagination'])
  })

  test('has_more is offset + limit < total, whatever they are', async () => {
    for (const limit of [1, 2, 4, 5, 6, 1000]) {
      for (const offset of [0, 1, 3, 4, 5, 6, 999]) {
        const { json } = await list(app, 'agent_tasks', { limit, offset })
        expect(json.pagination).toMatchObject({ total: 5, limit, offset, has_more: offset + limit < 5 })
        expect(json.data).toHaveLength(Math.max(0, Math.min(limit, 5 - offset)))
      }
    }
  })

  test('created_after and created_before are inclusive, to the millisecond and in any time zone', async () => {
    expect(await ids({ created_after: times[3] ?? '' })).toEqual(['t4', 't3'])
    expect(await ids({ created_after: '2024-05-06T07:08:03.501Z' })).toEqual(['t4'])
    expect(await ids({ created_before: times[1] ?? '' })).toEqual(['t1', 't0'])
    expect(await ids({ created_before: '2024-05-06T07:08:01.499Z' })).toEqual(['t0'])
    expect(await ids({ created_after: '2024-05-06T09:08:03.500+02:00' })).toEqual(['t4', 't3'])
    expect(await ids({ created_after: '2024-05-06', created_before: '2024-05-07' })).toHaveLength(5)
    expect(await ids({ created_after: times[1] ?? '', created_before: times[3] ?? '' })).toEqual([
      't3',
      't2',
      't1',
    ])
  })

  test('session_id, sort_by and sort_order choose and order', async () => {
    expect(await ids({ session_id: 'odd' })).toEqual(['t3', 't1'])
    expect(await ids({ session_id: 'none' })).toEqual([])
    expect(await ids({ sort_order: 'asc' })).toEqual(['t0', 't1', 't2', 't3', 't4'])
    // progress: 0, 37, 24, 11, 48
    expect(await ids({ sort_by: 'progress', sort_order: 'asc' })).toEqual(['t0', 't3', 't2', 't1', 't4'])
    expect(await ids({ sort_by: 'progress' })).toEqual(['t4', 't1', 't2', 't3', 't0'])
    expect(await ids({ filter: '{"progress":{"$gt":24}}', sort_by: 'id', sort_order: 'asc' })).toEqual([
      't1',
      't4',
    ])
  })

  test.each([
    ['limit', '0'],
    ['limit', '1001'],
    ['limit', '-1'],
    ['limit', '1.5'],
    ['limit', 'x'],
    ['limit', ''],
    ['offset', '-1'],
    ['offset', 'NaN'],
    ['sort_order', 'up'],
    ['sort_by', ''],
    ['created_after', 'yesterday'],
    ['created_before', '2024-02-30'],
    ['created_before', '1714979280'],
    ['filter', '{'],
  ])('%s=%j is 400 and named, not an empty list (defect 5)', async (name, value) => {
    const answer = await list(app, 'agent_tasks', { [name]: value })
    expectError(answer, 400)
    expect(answer.json.details[0].field).toContain(`query.${name}`)
  })

  test('more than 1000 documents are all counted and listed (defect 3)', async () => {
    const lines = Array.from({ length: 1203 }, (_, n) =>
      JSON.stringify({ ...bodies.opencode_events, id: `e${n}` }),
    )
    await call(app, 'POST', '/api/v1/opencode_events/import', {
      body: lines.join('\n'),
      headers: { 'content-type': 'application/x-ndjson' },
    })
    const first = await list(app, 'opencode_events', { limit: 1000 })
    const second = await list(app, 'opencode_events', { limit: 1000, offset: 1000 })
    expect(first.json.pagination).toMatchObject({ total: 1203, has_more: true })
    expect(second.json.pagination).toMatchObject({ total: 1203, has_more: false })
    const seen = [...first.json.data, ...second.json.data].map((item: { id: string }) => item.id)
    expect(new Set(seen).size).toBe(1203)
    // The oldest are found by a condition too, not only the newest thousand.
    const oldest = await list(app, 'opencode_events', { filter: '{"id":"e0"}' })
    expect(oldest.json.pagination.total).toBe(1)
  })
})

describe.each(mirrorKinds)('/debug/dualstore-data with the %s mirror', (kind) => {
  test('shows the ten newest raw documents in the legacy shape', async () => {
    const app = await testServer(kind)
    for (const collection of LEGACY) await create(app, collection, full[collection])
    for (let n = 0; n < 11; n++) await create(app, 'agent_tasks', bodies.agent_tasks ?? {})
    await fromMirror(app, 'agent_tasks').then((headers) =>
      call(app, 'GET', '/api/v1/agent_tasks?limit=1', { headers }),
    )
    const answer = await call(app, 'GET', '/debug/dualstore-data')
    expect(answer.status).toBe(200)
    expect(Object.keys(answer.json)).toEqual([...LEGACY])
    expect(answer.json.agent_tasks).toHaveLength(10)
    const [message] = answer.json.session_messages
    const { content, metadata, session_id, role } = full.session_messages
    const common = { updated_at: message.timestamp, timestamp: message.timestamp }
    const vector = { vectorWriteSuccess: false, vectorWriteTimestamp: null }
    expect(message).toMatchObject({
      id: expect.stringMatching(/^msg_/),
      text: content,
      timestamp: expect.stringMatching(ISO),
    })
    expect(message.metadata).toEqual({ ...metadata, session_id, role, ...common, ...vector })
    const [event] = answer.json.opencode_events
    expect(event.text).toBe(full.opencode_events.event_type)
    expect(event.metadata).toEqual({
      ...full.opencode_events,
      updated_at: event.timestamp,
      timestamp: event.timestamp,
      ...vector,
    })
    const [task] = answer.json.agent_tasks
    expect(task.text).toBe('build')
    expect(task.metadata).toMatchObject({
      sessionId: 'ses_1',
      agentId: 'a1',
      taskType: 'build',
      status: 'pending',
    })
  })
})

test('a field of an agent task stands under its legacy name in the mirror', async () => {
  const app = await testServer()
  await create(app, 'agent_tasks', full.agent_tasks)
  const headers = await fromMirror(app, 'agent_tasks')
  await call(app, 'GET', '/api/v1/agent_tasks', { headers })
  const { json } = await call(app, 'GET', '/debug/dualstore-data')
  const { input_data: _unstorable, ...rest } = full.agent_tasks
  expect(json.agent_tasks[0].metadata).toMatchObject({
    sessionId: rest.session_id,
    agentId: rest.agent_id,
    taskType: rest.task_type,
    status: rest.status,
    progress: rest.progress,
    outputData: rest.output_data,
    errorMessage: rest.error_message,
    inputData: { a: [1, 2.5, -0.25] },
  })
})

test('/debug/dualstore-data is closed on a server that anyone may reach (defect 10)', async () => {
  const app = await testServer('embedded', { host: '0.0.0.0' })
  expectError(await call(app, 'GET', '/debug/dualstore-data'), 403, 'FORBIDDEN')
})

import type { FastifyInstance } from 'fastify'
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Answer, bodies, call, create, expectError, fromMirror, withQuery } from '../../support/http.js'
import { as, withPrincipals } from '../../support/principals.js'
import { testServer } from '../../support/server.js'

const TASKS = '/api/v1/agent_tasks'
const NDJSON = { 'content-type': 'application/x-ndjson' }
const mine = { ...bodies.agent_tasks, session_id: 'mine' }
const other = { ...bodies.agent_tasks, session_id: 'other' }
const me = as({ id: 'key:me', rows: { session_id: 'mine' } })

let app: FastifyInstance
let position: string
beforeAll(async () => {
  app = await testServer('embedded', {}, withPrincipals)
})
// Each test has a document inside the rows and one outside.
beforeEach(async () => {
  for (const id of idsIn(await call(app, 'GET', `${TASKS}?limit=1000`))) {
    await call(app, 'DELETE', `${TASKS}/${id}`)
  }
  await call(app, 'PUT', `${TASKS}/in`, { body: mine })
  const last = await call(app, 'PUT', `${TASKS}/out`, { body: other })
  position = last.headers['x-dualstore-position'] ?? ''
})

const idsIn = (answer: Answer): string[] => answer.json.data.map((item: { id: string }) => item.id).sort()
const asked = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
  call(app, method, `${TASKS}${path}`, {
    headers: { ...me, ...headers },
    ...(body !== undefined && { body }),
  })
const stored = async (id: string) => (await call(app, 'GET', `${TASKS}/${id}`)).json.data
/** All that an answer says but what differs between any two. */
const said = ({ status, json }: Answer, id: string) => [
  status,
  JSON.stringify({ ...json, requestId: '' }).replaceAll(id, ''),
]

describe('a document outside the rows does not exist', () => {
  test.each([
    ['GET', undefined, {}],
    ['HEAD', undefined, {}],
    ['GET', undefined, { 'if-none-match': '"1"' }],
    ['PATCH', { status: 'running' }, {}],
    ['PATCH', { status: 'running' }, { 'if-match': '"1"' }],
    ['PATCH', { status: 'running' }, { 'if-match': '"7"' }],
    ['PATCH', { status: 'running' }, { 'if-none-match': '*' }],
    [
      'PATCH',
      [{ op: 'test', path: '/session_id', value: 'other' }],
      { 'content-type': 'application/json-patch+json' },
    ],
    ['DELETE', undefined, {}],
    ['DELETE', undefined, { 'if-match': '"1"' }],
    ['DELETE', undefined, { 'if-match': '"7"' }],
    ['DELETE', undefined, { 'if-match': '"1", "2"' }],
    ['DELETE', undefined, { 'if-none-match': '*' }],
    ['PUT', mine, { 'if-match': '"1"' }],
    ['PUT', mine, { 'if-match': '"7"' }],
    ['PUT', mine, { 'if-match': '"1", "2"' }],
    ['PUT', mine, { 'if-match': '*' }],
  ] as [string, unknown, Record<string, string>][])(
    '%s with %j and %j is answered as for a missing one',
    async (method, body, headers) => {
      const before = await stored('out')
      const there = await asked(method, '/out', body, headers)
      const missing = await asked(method, '/none', body, headers)
      expect(there.status).toBeGreaterThanOrEqual(400)
      expect(said(there, 'out')).toEqual(said(missing, 'none'))
      expect(there.headers.etag).toBeUndefined()
      expect(await stored('out')).toEqual(before)
    },
  )

  test('read from the mirror it does not either', async () => {
    const headers = await fromMirror(app, 'agent_tasks')
    expect((await asked('GET', '/in', undefined, headers)).json.data.id).toBe('in')
    const there = await asked('GET', '/out', undefined, headers)
    expect(said(there, 'out')).toEqual(said(await asked('GET', '/none', undefined, headers), 'none'))
    const list = await asked('GET', '', undefined, { ...headers, ...me })
    expect([idsIn(list), list.json.pagination.total]).toEqual([['in'], 1])
  })

  test.each([
    ['', {}],
    ['', { count: 'estimated' }],
    ['', { sort_by: 'session_id', sort_order: 'asc' }],
    ['', { filter: '{"session_id":{"$in":["mine","other"]}}' }],
    ['', { filter: '{"$or":[{"session_id":"other"},{"status":"pending"}]}' }],
    ['', { filter: '{"session_id":{"$ne":"nobody"}}' }],
    ['', { q: 'build' }],
    ['', { offset: 0, limit: 1 }],
  ])('it is in no list and no total: %s %j', async (path, query) => {
    const list = await asked('GET', withQuery(path, query as Record<string, string>))
    expect(idsIn(list)).toEqual(['in'])
    expect(list.json.pagination).toMatchObject({ total: 1, has_more: false, next_cursor: null })
  })

  test.each([{ session_id: 'other' }, { filter: '{"session_id":"other"}' }, { filter: '{"id":"out"}' }])(
    'asking for it finds nothing: %j',
    async (query) => {
      const list = await asked('GET', withQuery('', query as Record<string, string>))
      expect([idsIn(list), list.json.pagination.total]).toEqual([[], 0])
    },
  )

  test('estimates are exact, however many documents there are outside', async () => {
    const lines = Array.from({ length: 500 }, (_, n) => JSON.stringify({ ...other, id: `o${n}` })).join('\n')
    await call(app, 'POST', `${TASKS}/import`, { headers: NDJSON, body: lines })
    expect((await asked('GET', '?count=estimated')).json.pagination.total).toBe(1)
  })

  test('it is in no export', async () => {
    const all = await asked('GET', '/export')
    expect(all.text.trim().split('\n')).toHaveLength(1)
    expect(JSON.parse(all.text).id).toBe('in')
    expect((await asked('GET', '/export?session_id=other')).text).toBe('')
  })

  test('raw documents, to which rows do not apply, are refused', async () => {
    expectError(await call(app, 'GET', '/debug/dualstore-data', { headers: me }), 403, 'FORBIDDEN')
  })

  test('a cursor of somebody who sees more goes nowhere', async () => {
    for (let n = 0; n < 3; n++) await create(app, 'agent_tasks', mine)
    const theirs = (await call(app, 'GET', `${TASKS}?limit=1`)).json.pagination.next_cursor
    expectError(await asked('GET', withQuery('', { limit: 1, cursor: theirs })), 400, 'INVALID_CURSOR')
    const own = (await asked('GET', '?limit=1')).json.pagination.next_cursor
    expect((await asked('GET', withQuery('', { limit: 1, cursor: own }))).json.data).toHaveLength(1)
  })
})

describe('changes', () => {
  test('those of documents outside are not told; entering and leaving are insert and delete', async () => {
    const change = (id: string, session_id: string) =>
      call(app, 'PATCH', `${TASKS}/${id}`, { body: { session_id } })
    await change('out', 'elsewhere')
    await change('out', 'mine')
    await change('in', 'gone')
    await change('in', 'further')
    await call(app, 'DELETE', `${TASKS}/in`)
    const { json } = await asked('GET', `/changes?since=${position}`)
    const told = json.data.map(
      ({ type, data }: { type: string; data: { id: string; session_id: string } }) => [
        type,
        data.id,
        data.session_id,
      ],
    )
    expect(told).toEqual([
      ['insert', 'out', 'mine'],
      ['delete', 'in', 'mine'],
    ])
  })

  test('a filter cannot reach outside', async () => {
    await call(app, 'PATCH', `${TASKS}/out`, { body: { status: 'running' } })
    const query = { since: position, filter: '{"$or":[{"session_id":"other"},{"status":"running"}]}' }
    expect((await asked('GET', withQuery('/changes', query))).json.data).toEqual([])
  })
})

describe('what is written', () => {
  const refused = (answer: Answer) => {
    expectError(answer, 403, 'FORBIDDEN')
    expect(answer.json.details).toEqual([{ field: 'body', message: expect.any(String) }])
    expect(answer.text).not.toContain('mine')
  }

  test('may be inside', async () => {
    expect((await asked('POST', '', { ...mine, id: 'a' })).status).toBe(201)
    expect((await asked('PUT', '/b', mine)).status).toBe(201)
    const replaced = await asked('PUT', '/b', { ...mine, status: 'failed' })
    expect([replaced.status, replaced.headers.etag]).toEqual([200, '"2"'])
    expect((await asked('PATCH', '/b', { status: 'running' }, { 'if-match': '"2"' })).status).toBe(200)
    expect((await asked('PUT', '/b', mine, { 'if-match': '"3"' })).headers.etag).toBe('"4"')
    expectError(await asked('PUT', '/b', mine, { 'if-match': '"3"' }), 412, 'PRECONDITION_FAILED')
    expectError(await asked('PUT', '/b', mine, { 'if-none-match': '*' }), 412, 'PRECONDITION_FAILED')
    expectError(await asked('DELETE', '/b', undefined, { 'if-match': '"3"' }), 412, 'PRECONDITION_FAILED')
    expect((await asked('DELETE', '/b', undefined, { 'if-match': '"4"' })).status).toBe(200)
    expect((await asked('DELETE', '/a')).status).toBe(200)
  })

  test('by PUT keeps when the document was created', async () => {
    const before = await stored('in')
    const after = (await asked('PUT', '/in', { ...mine, status: 'failed' })).json.data
    expect(after).toMatchObject({ status: 'failed', created_at: before.created_at })
    expect(await stored('in')).toEqual(after)
  })

  test('must not be outside', async () => {
    refused(await asked('POST', '', other))
    refused(await asked('POST', '', { ...other, id: 'new' }))
    refused(await asked('PUT', '/new', other))
    refused(await asked('PUT', '/in', other))
    refused(await asked('PATCH', '/in', { session_id: 'other' }))
    const leave = [{ op: 'replace', path: '/session_id', value: 'other' }]
    refused(await asked('PATCH', '/in', leave, { 'content-type': 'application/json-patch+json' }))
    expect((await call(app, 'GET', `${TASKS}/new`)).status).toBe(404)
    expect(await stored('in')).toMatchObject({ session_id: 'mine' })
  })

  test('under an id that is taken outside is told nothing but that', async () => {
    const before = await stored('out')
    for (const answer of [
      await asked('POST', '', { ...mine, id: 'out' }),
      await asked('PUT', '/out', mine),
    ]) {
      expectError(answer, 409, 'ALREADY_EXISTS')
      expect(answer.json.message).toBe('the id "out" is taken in agent_tasks')
    }
    const created = await asked('PUT', '/out', mine, { 'if-none-match': '*' })
    expectError(created, 412, 'PRECONDITION_FAILED')
    expect(created.json.message).not.toMatch(/version/)
    expect(await stored('out')).toEqual(before)
  })

  test('by batch is held to the rows, each operation by itself', async () => {
    const operations = [
      { op: 'create', item: { ...mine, id: 'c' } },
      { op: 'create', item: other },
      { op: 'put', id: 'out', item: mine },
      { op: 'put', id: 'out', item: mine, if_version: 1 },
      { op: 'patch', id: 'out', patch: { status: 'failed' } },
      { op: 'patch', id: 'in', patch: { session_id: 'other' } },
      { op: 'delete', id: 'out' },
      { op: 'patch', id: 'in', patch: { status: 'failed' } },
      { op: 'delete', id: 'c' },
    ]
    const { json } = await asked('POST', '/batch', { operations })
    expect(json.data.map(({ status }: { status: number }) => status)).toEqual([
      201, 403, 409, 412, 404, 403, 404, 200, 200,
    ])
    expect(await stored('out')).toMatchObject({ session_id: 'other', status: 'pending' })
  })

  const line = (item: object) => JSON.stringify(item)
  test.each(['error', 'skip', 'replace'])('by import with on_conflict=%s', async (onConflict) => {
    const created_at = '2020-01-01T00:00:00.000Z'
    const lines = [
      line({ ...mine, id: 'new' }),
      line({ ...other, id: 'bad' }),
      line({ ...mine, id: 'out' }),
      line({ ...mine, id: 'in', created_at, status: 'failed' }),
      line({ ...other, id: 'in' }),
      line({ ...mine, id: 'new', status: 'running' }),
    ]
    const out = await stored('out')
    const { json } = await asked('POST', `/import?on_conflict=${onConflict}`, lines.join('\n'), NDJSON)
    const { errors, received: _received, position: _position, ...counts } = json.data
    const failed = errors.map(({ line: number }: { line: number }) => number).sort()
    const expected = {
      error: [{ created: 1, replaced: 0, skipped: 0, failed: 5 }, [2, 3, 4, 5, 6]],
      skip: [{ created: 1, replaced: 0, skipped: 3, failed: 2 }, [2, 5]],
      replace: [{ created: 1, replaced: 2, skipped: 0, failed: 3 }, [2, 3, 5]],
    }[onConflict]
    expect([counts, failed]).toEqual(expected)
    expect(await stored('out')).toEqual(out)
    expect((await call(app, 'GET', `${TASKS}/bad`)).status).toBe(404)
    expect(await stored('in')).toMatchObject(
      onConflict === 'replace' ? { status: 'failed', created_at } : { status: 'pending' },
    )
    expect(await stored('new')).toMatchObject({ status: onConflict === 'replace' ? 'running' : 'pending' })
  })

  test('rows of more than one field hold too', async () => {
    const rows = {
      $or: [{ session_id: 'mine', status: { $ne: 'failed' } }, { agent_id: { $exists: false } }],
    }
    const headers = as({ rows })
    const put = (body: object) => call(app, 'PUT', `${TASKS}/in`, { headers, body })
    expect((await put({ ...mine, status: 'running' })).status).toBe(200)
    refused(await put({ ...mine, status: 'failed' }))
  })

  test('rows of the time of creation hold where it is kept', async () => {
    const headers = as({ rows: { created_at: { $lt: '2021-01-01T00:00:00.000Z' } } })
    const old = line({ ...mine, id: 'old', created_at: '2020-01-01T00:00:00.000Z' })
    expect(
      (await call(app, 'POST', `${TASKS}/import`, { headers: { ...headers, ...NDJSON }, body: old })).json
        .data.created,
    ).toBe(1)
    // What is made now is outside; what is replaced keeps its time.
    expect((await call(app, 'PUT', `${TASKS}/old`, { headers, body: other })).status).toBe(200)
    refused(await call(app, 'POST', TASKS, { headers, body: mine }))
    expectError(await call(app, 'PUT', `${TASKS}/in`, { headers, body: mine }), 409, 'ALREADY_EXISTS')
  })
})

describe('an Idempotency-Key', () => {
  test('belongs to whoever sent it', async () => {
    const key = { 'idempotency-key': 'k' }
    const first = await asked('POST', '', mine, key)
    expect((await asked('POST', '', mine, key)).json.data).toEqual(first.json.data)
    // The same key of others, with the same body or another.
    const you = as({ id: 'key:you' })
    const theirs = await call(app, 'POST', TASKS, { headers: { ...you, ...key }, body: mine })
    expect([theirs.status, theirs.json.data.id === first.json.data.id]).toEqual([201, false])
    expect((await call(app, 'POST', TASKS, { headers: key, body: other })).status).toBe(201)
    const narrower = as({ id: 'key:me', rows: { session_id: 'mine', status: 'pending' } })
    const again = await call(app, 'POST', TASKS, { headers: { ...narrower, ...key }, body: mine })
    expect(again.json.data.id).not.toBe(first.json.data.id)
    expectError(await asked('POST', '', { ...mine, status: 'failed' }, key), 422, 'IDEMPOTENCY_KEY_REUSED')
  })
})

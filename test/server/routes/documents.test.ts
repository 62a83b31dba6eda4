import type { FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import { bodies, call, create, expectError, fromMirror, withQuery } from '../../support/http.js'
import { mirrorKinds, testServer } from '../../support/server.js'
import { TASKS, task, tasksOf, times, urlOf } from '../../support/tasks.js'

let app: FastifyInstance
beforeAll(async () => {
  app = await testServer()
})

const { fresh, read } = tasksOf(() => app)

describe('GET and HEAD', () => {
  test('HEAD tells the same as GET, without a body', async () => {
    const item = await fresh()
    const got = await call(app, 'GET', urlOf(item))
    const head = await call(app, 'HEAD', urlOf(item))
    expect(head.status).toBe(200)
    expect(head.text).toBe('')
    for (const name of ['etag', 'content-type', 'content-length'])
      expect(head.headers[name]).toBe(got.headers[name])
    expect((await call(app, 'HEAD', `${TASKS}/nothing`)).status).toBe(404)
  })

  test.each(['"1"', 'W/"1"', '"7", "1"', '*', '"x,y" , W/"1"'])('If-None-Match %s is 304', async (tag) => {
    const item = await fresh()
    const answer = await call(app, 'GET', urlOf(item), { headers: { 'if-none-match': tag } })
    expect([answer.status, answer.text, answer.headers.etag]).toEqual([304, '', '"1"'])
  })

  test('If-None-Match of another version answers the document', async () => {
    const item = await fresh()
    for (const tag of ['"2"', '"01x"', '1', '"foreign"']) {
      const answer = await call(app, 'GET', urlOf(item), { headers: { 'if-none-match': tag } })
      expect(answer.json.data).toEqual(item)
    }
  })

  test('ids of every permitted kind make the way there and back', async () => {
    for (const id of [
      'a b',
      'ä/ö?#%',
      '😀',
      "'; DROP TABLE x; --",
      '__proto__',
      'constructor',
      '…',
      'x'.repeat(512),
    ]) {
      const made = await call(app, 'POST', TASKS, { body: { ...task, id } })
      expect(made.status, made.text).toBe(201)
      expect(made.headers.location).toBe(`${TASKS}/${encodeURIComponent(id)}`)
      const got = await call(app, 'GET', made.headers.location ?? '')
      expect(got.json.data).toEqual(made.json.data)
    }
  })
})

describe('PUT', () => {
  test('creates with 201, replaces with 200, keeps created_at and counts versions', async () => {
    const url = `${TASKS}/put-1`
    const made = await call(app, 'PUT', url, { body: { ...task, extra: 1 } })
    expect([made.status, made.headers.etag, made.json.data.id]).toEqual([201, '"1"', 'put-1'])
    const replaced = await call(app, 'PUT', url, { body: { ...task, status: 'running' } })
    expect([replaced.status, replaced.headers.etag]).toEqual([200, '"2"'])
    expect(replaced.json.data).toEqual({
      ...task,
      status: 'running',
      id: 'put-1',
      created_at: made.json.data.created_at,
      updated_at: expect.any(String),
    })
    expect(replaced.json.data.updated_at >= made.json.data.updated_at).toBe(true)
    expect((await call(app, 'GET', url)).json.data).toEqual(replaced.json.data)
  })

  test('refuses another id in the body and times of the client', async () => {
    expectError(await call(app, 'PUT', `${TASKS}/a`, { body: { ...task, id: 'b' } }), 400)
    const created_at = '2001-01-01T00:00:00.000Z'
    const answer = await call(app, 'PUT', `${TASKS}/a`, { body: { ...task, id: 'a', created_at } })
    expect(answer.json.data.created_at).not.toBe(created_at)
  })

  test('If-None-Match: * only creates', async () => {
    const headers = { 'if-none-match': '*' }
    expect((await call(app, 'PUT', `${TASKS}/only-new`, { headers, body: task })).status).toBe(201)
    const again = await call(app, 'PUT', `${TASKS}/only-new`, {
      headers,
      body: { ...task, status: 'failed' },
    })
    expectError(again, 412, 'PRECONDITION_FAILED')
    expect((await read({ id: 'only-new' })).status).toBe('pending')
    expectError(
      await call(app, 'PUT', `${TASKS}/x`, { headers: { 'if-none-match': '"1"' }, body: task }),
      400,
    )
    const both = { 'if-none-match': '*', 'if-match': '"1"' }
    expectError(await call(app, 'PUT', `${TASKS}/both`, { headers: both, body: task }), 400)
    expectError(await call(app, 'GET', `${TASKS}/both`), 404)
  })
})

describe('If-Match', () => {
  const put = (id: string, tag: string) =>
    call(app, 'PUT', `${TASKS}/${id}`, { headers: { 'if-match': tag }, body: task })
  const patch = (id: string, tag: string) =>
    call(app, 'PATCH', `${TASKS}/${id}`, { headers: { 'if-match': tag }, body: { a: 1 } })
  const remove = (id: string, tag: string) =>
    call(app, 'DELETE', `${TASKS}/${id}`, { headers: { 'if-match': tag } })

  test.each([
    ['PUT', put],
    ['PATCH', patch],
    ['DELETE', remove],
  ])('%s with the version, a list or * that holds works; anything else is 412', async (_name, send) => {
    for (const tag of ['"2"', 'W/"1"', '"foreign"', '1', '"2", "3"', '""']) {
      const { id } = await fresh()
      expectError(await send(id, tag), 412, 'PRECONDITION_FAILED')
      expect((await call(app, 'GET', `${TASKS}/${id}`)).headers.etag).toBe('"1"')
    }
    for (const tag of ['"1"', '*', '"9", "1"', '"foreign", "1"']) {
      const { id } = await fresh()
      expect((await send(id, tag)).status).toBe(200)
    }
  })

  test('PUT on a document that does not exist is 412 and creates nothing', async () => {
    for (const tag of ['*', '"1"', '"1", "2"']) {
      expectError(await put('not-there', tag), 412)
      expectError(await call(app, 'GET', `${TASKS}/not-there`), 404)
    }
  })

  test('PATCH and DELETE with If-None-Match: * on a document that exists are 412', async () => {
    const item = await fresh()
    const headers = { 'if-none-match': '*' }
    expectError(await call(app, 'PATCH', urlOf(item), { headers, body: { a: 1 } }), 412)
    expectError(await call(app, 'DELETE', urlOf(item), { headers }), 412)
    expect(await read(item)).toEqual(item)
  })

  test('of 20 concurrent PUTs with one version exactly one wins', async () => {
    const { id } = await fresh()
    const answers = await Promise.all(
      times(20).map((n) =>
        call(app, 'PUT', `${TASKS}/${id}`, { headers: { 'if-match': '"1"' }, body: { ...task, n } }),
      ),
    )
    const won = answers.filter((answer) => answer.status === 200)
    expect(won).toHaveLength(1)
    expect(answers.filter((answer) => answer.status === 412)).toHaveLength(19)
    expect(await read({ id })).toEqual(won[0]?.json.data)
  })
})

describe('Idempotency-Key', () => {
  const post = (key: string, body: object) =>
    call(app, 'POST', TASKS, { headers: { 'idempotency-key': key }, body })

  test('a repeated request is answered the same and makes nothing', async () => {
    const body = { ...task, z: 1, a: { y: [1.0, 'é'], b: 2 } }
    const first = await post('key-1', body)
    const { z, a, ...rest } = body
    const again = await post('key-1', { a: { b: 2, y: a.y }, z, ...rest })
    expect([first.status, again.status]).toEqual([201, 201])
    expect(again.text).toBe(first.text)
    for (const name of ['etag', 'location']) expect(again.headers[name]).toBe(first.headers[name])
    expect(await read(first.json.data)).toEqual(first.json.data)
  })

  test('another body is 422, another collection has keys of its own', async () => {
    await post('key-2', task)
    expectError(await post('key-2', { ...task, status: 'failed' }), 422, 'IDEMPOTENCY_KEY_REUSED')
    const other = await call(app, 'POST', '/api/v1/opencode_events', {
      headers: { 'idempotency-key': 'key-2' },
      body: bodies.opencode_events,
    })
    expect(other.status).toBe(201)
  })

  test('20 concurrent requests with one key make one document', async () => {
    const answers = await Promise.all(times(20).map(() => post('key-3', { ...task, session_id: 'key-3' })))
    expect(new Set(answers.map((answer) => answer.text)).size).toBe(1)
    expect(answers[0]?.status).toBe(201)
    const { json } = await call(app, 'GET', `${TASKS}?session_id=key-3`)
    expect(json.pagination.total).toBe(1)
  })

  test('a key can be used again after 400 and 409', async () => {
    expectError(await post('key-4', { ...task, status: 'odd' }), 400)
    const taken = await fresh()
    expectError(await post('key-4', { ...task, id: taken.id }), 409, 'ALREADY_EXISTS')
    expect((await post('key-4', { ...task, id: 'key-4-free' })).status).toBe(201)
  })

  test('the answer stays when the document was changed or deleted since', async () => {
    const first = await post('key-5', task)
    await call(app, 'DELETE', urlOf(first.json.data))
    expect((await post('key-5', task)).text).toBe(first.text)
  })
})

describe.each(mirrorKinds)('positions and the %s mirror', (kind) => {
  let mirrored: FastifyInstance
  beforeAll(async () => {
    mirrored = kind === 'embedded' ? app : await testServer(kind)
  })

  test('a read that waits for a write sees it, in both stores', async () => {
    const made = await call(mirrored, 'POST', TASKS, { body: task })
    const position = made.headers['x-dualstore-position'] ?? ''
    expect(position).toMatch(/^[0-9a-f]{8}-\d+$/)
    for (const store of ['postgres', 'mirror']) {
      const headers = { 'x-dualstore-wait-for': position, 'x-dualstore-read-from': store }
      const answer = await call(mirrored, 'GET', urlOf(made.json.data), { headers })
      expect(answer.json.data).toEqual(made.json.data)
      expect(answer.headers.etag).toBe('"1"')
      expect(answer.headers['x-dualstore-source']).toBe(store === 'mirror' ? 'mirror' : undefined)
    }
  })

  test('positions grow with every write, deletes included', async () => {
    const seq = (answer: { headers: Record<string, string | undefined> }) =>
      Number(answer.headers['x-dualstore-position']?.split('-')[1])
    const made = await call(mirrored, 'POST', TASKS, { body: task })
    const patched = await call(mirrored, 'PATCH', urlOf(made.json.data), { body: { a: 1 } })
    const gone = await call(mirrored, 'DELETE', urlOf(made.json.data))
    expect(seq(patched)).toBeGreaterThan(seq(made))
    expect(seq(gone)).toBeGreaterThan(seq(patched))
  })

  test('a bad position and one of another log are 400, one of the future is 504', async () => {
    const item = await create(mirrored, 'agent_tasks', task)
    for (const url of [TASKS, urlOf(item)]) {
      for (const position of ['x', '5', 'deadbeef-1', '', 'deadbeef-', '-1', "deadbeef-1'"]) {
        const answer = await call(mirrored, 'GET', url, { headers: { 'x-dualstore-wait-for': position } })
        expectError(answer, 400, 'INVALID_REQUEST')
        expect(answer.json.details[0].field).toContain('x-dualstore-wait-for')
      }
    }
    expectError(await call(mirrored, 'GET', TASKS, { headers: { 'x-dualstore-read-from': 'chroma' } }), 400)
  })

  test('a strict write is in the mirror when it is answered', async () => {
    const headers = { 'x-dualstore-consistency': 'strict', 'idempotency-key': `strict-${kind}` }
    const made = await call(mirrored, 'POST', TASKS, { headers, body: task })
    expect(made.status).toBe(201)
    const url = urlOf(made.json.data)
    const fromIt = { headers: { 'x-dualstore-read-from': 'mirror' } }
    expect((await call(mirrored, 'GET', url, fromIt)).json.data).toEqual(made.json.data)
    expect((await call(mirrored, 'POST', TASKS, { headers, body: task })).text).toBe(made.text)
    await call(mirrored, 'DELETE', url, { headers: { 'x-dualstore-consistency': 'strict' } })
    expectError(await call(mirrored, 'GET', url, fromIt), 404)
    const odd = { headers: { 'x-dualstore-consistency': 'maybe' }, body: task }
    expectError(await call(mirrored, 'POST', TASKS, odd), 400)
  })

  test('a list from the mirror equals the list from PostgreSQL', async () => {
    for (const n of times(12))
      await create(mirrored, 'agent_tasks', {
        ...task,
        session_id: `same-${n % 3}`,
        progress: n,
        'odd.key': { $x: n },
      })
    const headers = await fromMirror(mirrored, 'agent_tasks')
    const queries: Record<string, string>[] = [
      {},
      { session_id: 'same-1', limit: '2' },
      { filter: '{"progress":{"$gte":4},"odd.key":null}', sort_order: 'asc', offset: '1', limit: '3' },
      { filter: '{"$or":[{"progress":{"$lt":3}},{"progress":{"$in":[7,9]}}]}', sort_by: 'id' },
      { sort_by: 'updated_at', sort_order: 'asc', fields: 'progress,input_data.a' },
      { session_id: 'nobody' },
    ]
    for (const query of queries) {
      const url = withQuery(TASKS, query)
      const mirror = await call(mirrored, 'GET', url, { headers })
      const postgres = await call(mirrored, 'GET', url)
      expect(mirror.status, mirror.text).toBe(200)
      expect(mirror.headers['x-dualstore-source']).toBe('mirror')
      expect(mirror.json).toEqual(postgres.json)
      const { next_cursor: cursor } = postgres.json.pagination
      if (cursor === null) continue
      const next = withQuery(TASKS, { ...query, cursor })
      const { json } = await call(mirrored, 'GET', next, { headers })
      expect(json).toEqual((await call(mirrored, 'GET', next)).json)
    }
  })
})

test('a wait for a position that does not come ends with 504 and the position', async () => {
  const impatient = await testServer('embedded', { waitTimeoutMs: 50 })
  const made = await call(impatient, 'POST', TASKS, { body: task })
  const [epoch] = (made.headers['x-dualstore-position'] ?? '').split('-')
  for (const store of ['postgres', 'mirror']) {
    const headers = { 'x-dualstore-wait-for': `${epoch}-999999999`, 'x-dualstore-read-from': store }
    const answer = await call(impatient, 'GET', TASKS, { headers })
    expectError(answer, 504, 'WAIT_TIMEOUT')
    expect(answer.json.position).toBe(`${epoch}-999999999`)
    expect(answer.headers['retry-after']).toBe('1')
  }
})

test('without a mirror strict writes and reads from it are 503, everything else works', async () => {
  const alone = await testServer('embedded', { dualWriteEnabled: false })
  const strict = { 'x-dualstore-consistency': 'strict' }
  expectError(await call(alone, 'POST', TASKS, { headers: strict, body: task }), 503, 'MIRROR_UNAVAILABLE')
  const made = await create(alone, 'agent_tasks', task)
  expect((await call(alone, 'GET', TASKS)).json.data).toEqual([made])
  const headers = { 'x-dualstore-read-from': 'mirror' }
  for (const url of [TASKS, urlOf(made), '/debug/dualstore-data'])
    expectError(await call(alone, 'GET', url, { headers }), 503, 'MIRROR_UNAVAILABLE')
})

import { once } from 'node:events'
import { request } from 'node:http'
import { connect } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import { bodies, call, create, expectError, withQuery } from '../../support/http.js'
import { testServer } from '../../support/server.js'

const TASKS = '/api/v1/agent_tasks'
const EVENTS = '/api/v1/opencode_events'
const MESSAGES = '/api/v1/session_messages'
const task = bodies.agent_tasks ?? {}
const NDJSON = { 'content-type': 'application/x-ndjson' }

let app: FastifyInstance
let address: { host: string; port: number }
beforeAll(async () => {
  app = await testServer('embedded', { bodyLimitBytes: 1024 * 1024 })
  const url = new URL(await app.listen({ host: '127.0.0.1', port: 0 }))
  address = { host: url.hostname, port: Number(url.port) }
})

const load = (collection: string, body: string | Buffer, query: Record<string, string> = {}) =>
  call(app, 'POST', withQuery(`${collection}/import`, query), { headers: NDJSON, body })
const exported = async (collection: string, query: Record<string, string> = {}) => {
  const { text, status, headers } = await call(app, 'GET', withQuery(`${collection}/export`, query))
  expect([status, headers['content-type']]).toEqual([200, 'application/x-ndjson'])
  return text
}

describe('batch', () => {
  const batch = (operations: unknown, headers: Record<string, string> = {}) =>
    call(app, 'POST', `${TASKS}/batch`, { headers, body: { operations } })

  test('every operation has a result of its own', async () => {
    const kept = await create(app, 'agent_tasks', task)
    const answer = await batch([
      { op: 'create', item: { ...task, id: 'b1' } },
      { op: 'create', item: { ...task, status: 'odd' } },
      { op: 'put', id: 'b2', item: task },
      { op: 'patch', id: kept.id, patch: { progress: 3 } },
      { op: 'patch', id: 'nothing', patch: {} },
      { op: 'put', id: kept.id, item: task, if_version: 7 },
      { op: 'create', item: { ...task, id: kept.id } },
      { op: 'delete', id: 'nothing' },
      { op: 'put', id: 'x\n', item: task },
    ])
    expect(answer.status).toBe(200)
    expect(answer.json.success).toBe(false)
    expect(answer.json.data.map((result: { status: number }) => result.status)).toEqual([
      201, 400, 201, 200, 404, 412, 409, 404, 400,
    ])
    expect(answer.json.data[0]).toMatchObject({
      id: 'b1',
      version: 1,
      etag: '"1"',
      data: { ...task, id: 'b1' },
    })
    expect(answer.json.data[1]).toMatchObject({
      code: 'INVALID_REQUEST',
      details: [{ field: 'body.status' }],
    })
    expect(answer.json.data[8].details[0].field).toBe('body.operations[8].id')
    expect((await call(app, 'GET', `${TASKS}/${kept.id}`)).json.data.progress).toBe(3)
  })

  test('operations on one document run in the order given', async () => {
    const answer = await batch([
      { op: 'create', item: { ...task, id: 'order' } },
      { op: 'patch', id: 'order', patch: { progress: 1 }, if_version: 1 },
      { op: 'put', id: 'order', item: { ...task, step: 2 }, if_version: 2 },
      { op: 'delete', id: 'order', if_version: 3 },
      { op: 'put', id: 'order', item: { ...task, step: 4 } },
      { op: 'patch', id: 'order', patch: { step: 5 } },
    ])
    expect(answer.json.data.map((result: { status: number }) => result.status)).toEqual([
      201, 200, 200, 200, 201, 200,
    ])
    expect(answer.json.success).toBe(true)
    expect((await call(app, 'GET', `${TASKS}/order`)).json.data.step).toBe(5)
  })

  test('of two creates of one id the first is done; the others go together and are answered in their places', async () => {
    const named = (id: string, title: string) => ({ op: 'create', item: { ...task, id, title } })
    const answer = await batch([
      named('twin', 'ü 漢/😀'),
      { op: 'create', item: { ...task, id: 7 } },
      named('single', 'ü 漢/😀'),
      named('twin', 'second'),
      { op: 'create', item: { ...task, created_at: 'mine', title: 'unnamed' } },
    ])
    const results: { status: number; data?: { title: string } }[] = answer.json.data
    expect(results.map(({ status }) => status)).toEqual([201, 400, 201, 409, 201])
    expect(results.map(({ data }) => data?.title)).toEqual([
      'ü 漢/😀',
      undefined,
      'ü 漢/😀',
      undefined,
      'unnamed',
    ])
    expect(Number(answer.headers['content-length'])).toBe(Buffer.byteLength(answer.text))
    expect((await call(app, 'GET', `${TASKS}/twin`)).json.data.title).toBe('ü 漢/😀')
  })

  test('a batch repeated with its key creates nothing twice, and shares no key with single requests', async () => {
    const operations = [
      { op: 'create', item: { ...task, session_id: 'batch-key' } },
      { op: 'create', item: { ...task, session_id: 'batch-key', n: 1 } },
    ]
    const headers = { 'idempotency-key': 'b' }
    const first = await batch(operations, headers)
    const again = await batch(operations, headers)
    expect(again.json).toEqual(first.json)
    const single = await call(app, 'POST', TASKS, { headers: { 'idempotency-key': 'b:0' }, body: task })
    expect(single.status).toBe(201)
    const changed = await batch([operations[1], operations[0]], headers)
    expect(changed.json.data.map((result: { status: number }) => result.status)).toEqual([422, 422])
    expect((await call(app, 'GET', `${TASKS}?session_id=batch-key`)).json.pagination.total).toBe(2)
  })

  test.each<[string, unknown, string]>([
    ['no operations', [], 'body.operations'],
    ['no array', {}, 'body.operations'],
    ['too many', Array(1001).fill({ op: 'delete', id: 'x' }), 'body.operations'],
    ['an unknown operation', [{ op: 'upsert', id: 'x' }], 'body.operations.0'],
    ['no operation', [{ id: 'x' }], 'body.operations.0'],
    ['null', [null], 'body.operations.0'],
    ['an unknown member', [{ op: 'delete', id: 'x', force: true }], 'body.operations.0.force'],
    ['no id', [{ op: 'put', item: task }], 'body.operations.0.id'],
    ['an empty id', [{ op: 'delete', id: '' }], 'body.operations.0.id'],
    ['an item that is none', [{ op: 'create', item: [] }], 'body.operations.0.item'],
    ['a version of 1e300', [{ op: 'delete', id: 'x', if_version: 1e300 }], 'body.operations.0.if_version'],
    ['a version of 1.5', [{ op: 'delete', id: 'x', if_version: 1.5 }], 'body.operations.0.if_version'],
  ])('%s is 400 and nothing is run', async (_name, operations, field) => {
    const answer = await batch(operations)
    expectError(answer, 400, 'INVALID_REQUEST')
    expect(answer.json.details[0].field).toContain(field)
  })
})

describe('import and export', () => {
  const strange = [
    { id: 'ü 漢/😀', created_at: '2024-02-29T12:00:00.123Z', updated_at: '2024-03-01T00:00:00.000Z' },
    { id: 'b', n: [0.1, 1e21, -5e-324, null, true], '': { ' ': '' }, 'a.b': '\u2028\u0001"\\/' },
    { id: 'c', deep: { constructor: { x: 1 }, toString: 'x', $set: { _id: 1 } } },
  ].map((item) => ({ ...task, ...item }))

  test('what was exported imports equal, times and ids included', async () => {
    await load(TASKS, strange.map((item) => JSON.stringify(item)).join('\n'))
    const text = await exported(TASKS)
    const items = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(items.map((item) => item.id)).toEqual(items.map((item) => item.id).sort())
    expect(items.find((item) => item.id === 'ü 漢/😀')).toEqual(strange[0])
    for (const { id } of items) await call(app, 'DELETE', `${TASKS}/${encodeURIComponent(id)}`)
    expect(await exported(TASKS)).toBe('')
    const report = await load(TASKS, text)
    expect(report.json).toEqual({
      success: true,
      data: {
        received: items.length,
        created: items.length,
        replaced: 0,
        skipped: 0,
        failed: 0,
        errors: [],
        position: expect.any(String),
      },
    })
    expect(await exported(TASKS)).toBe(text)
  })

  test('an export takes the selection of a list', async () => {
    const text = await exported(TASKS, { filter: '{"id":{"$in":["b","c"]}}', q: '"toString" OR build' })
    expect(text.trimEnd().split('\n')).toHaveLength(2)
    expectError(await call(app, 'GET', withQuery(`${TASKS}/export`, { filter: '{' })), 400, 'INVALID_FILTER')
    expectError(await call(app, 'GET', '/api/v1/nothing/export'), 404, 'COLLECTION_NOT_FOUND')
  })

  test.each([
    ['error', { created: 1, replaced: 0, skipped: 0, failed: 2 }, 'pending'],
    ['skip', { created: 1, replaced: 0, skipped: 2, failed: 0 }, 'pending'],
    ['replace', { created: 1, replaced: 2, skipped: 0, failed: 0 }, 'failed'],
  ])('on_conflict=%s', async (on_conflict, counts, status) => {
    const id = (name: string) => `conflict-${on_conflict}-${name}`
    for (const name of ['a', 'b']) await create(app, 'agent_tasks', { ...task, id: id(name) })
    const lines = ['a', 'b', 'c'].map((name) => JSON.stringify({ ...task, id: id(name), status: 'failed' }))
    const answer = await load(TASKS, lines.join('\n'), { on_conflict })
    expect(answer.json.data).toMatchObject({ received: 3, ...counts })
    expect(answer.json.success).toBe(counts.failed === 0)
    if (counts.failed > 0) {
      expect(answer.json.data.errors.map((fault: { line: number }) => fault.line).sort()).toEqual([1, 2])
      expect(answer.json.data.errors[0]).toMatchObject({ field: 'item.id', id: expect.any(String) })
    }
    expect((await call(app, 'GET', `${TASKS}/${id('a')}`)).json.data.status).toBe(status)
  })

  test('every wrong line is named with its number and disturbs no other', async () => {
    const good = (n: number) => JSON.stringify({ ...task, session_id: 'lines', n })
    const deep = `{"a":${'['.repeat(10_000)}${']'.repeat(10_000)}}`
    const bad = [
      '{',
      '[]',
      'null',
      JSON.stringify({ ...task, status: 'odd' }),
      '{"__proto__":{"x":1}}',
      JSON.stringify({ ...task, id: 'import' }),
      JSON.stringify({ ...task, id: 7 }),
      JSON.stringify({ ...task, created_at: '2024-02-30T00:00:00Z' }),
      JSON.stringify({ ...task, updated_at: null }),
      JSON.stringify({ ...task, created_at: '9999-12-31T23:59:59-12:00' }),
      JSON.stringify({ ...task, x: '\u0000' }),
      JSON.stringify({ ...task, x: '\ud800' }),
      '{"session_id":1e400}',
      deep,
      '\ufeff{',
    ].map((line) => Buffer.from(line))
    bad.push(Buffer.concat([Buffer.from('{"x":"'), Buffer.from([0xff, 0xfe]), Buffer.from('"}')]))
    const newline = Buffer.from('\n')
    const body = Buffer.concat(bad.flatMap((line, n) => [Buffer.from(good(n)), newline, line, newline]))
    const answer = await load(TASKS, body)
    expect(answer.status).toBe(200)
    const { errors, ...counts } = answer.json.data
    expect(counts).toEqual({
      position: expect.any(String),
      received: bad.length * 2,
      created: bad.length,
      replaced: 0,
      skipped: 0,
      failed: bad.length,
    })
    expect(errors.map((fault: { line: number }) => fault.line)).toEqual(bad.map((_, n) => n * 2 + 2))
    for (const fault of errors) expect(fault.message).toMatch(/\w/)
    expect((await call(app, 'GET', `${TASKS}?session_id=lines`)).json.pagination.total).toBe(bad.length)
  })

  test('CRLF, blank lines, no newline at the end and nothing at all', async () => {
    const line = (n: number) => JSON.stringify({ ...task, id: `crlf-${n}` })
    const answer = await load(TASKS, `\r\n${line(1)}\r\n\r\n  \n${line(2)}\n${line(3)}`)
    expect(answer.json.data).toMatchObject({ received: 3, created: 3, failed: 0 })
    for (const nothing of ['', '\n', '\r\n\r\n']) {
      const empty = await load(TASKS, nothing)
      expect(empty.json.data ?? empty.json, empty.text).toMatchObject({ received: 0, failed: 0 })
    }
  })

  test('an overlong line is 413 and named; what stood before it is imported', async () => {
    const first = JSON.stringify({ ...task, id: 'before-long' })
    const answer = await load(TASKS, `${first}\n${'x'.repeat(1024 * 1024 + 1)}`)
    expectError(answer, 413, 'PAYLOAD_TOO_LARGE')
    expect(answer.json.details[0].field).toBe('line 2')
    expect((await call(app, 'GET', `${TASKS}/before-long`)).status).toBe(200)
  })

  test('anything but NDJSON is 415 on import, and NDJSON is 415 elsewhere', async () => {
    for (const type of ['application/json', 'text/plain', 'application/merge-patch+json'])
      expectError(
        await call(app, 'POST', `${TASKS}/import`, { headers: { 'content-type': type }, body: '{}' }),
        415,
      )
    for (const [method, url] of [
      ['POST', TASKS],
      ['PUT', `${TASKS}/x`],
      ['PATCH', `${TASKS}/crlf-1`],
      ['POST', `${TASKS}/batch`],
      ['POST', '/api/v1/collections'],
    ] as const)
      expectError(await call(app, method, url, { headers: NDJSON, body: '{}' }), 415)
    expectError(await load(TASKS, '', { on_conflict: 'maybe' }), 400)
    expectError(await load('/api/v1/nothing', '{}'), 404)
  })

  test('a client that goes away in the middle leaves whole documents and a healthy server', async () => {
    const socket = connect(address)
    await once(socket, 'connect')
    const lines = Array.from({ length: 3000 }, (_, n) =>
      JSON.stringify({ ...bodies.session_messages, id: `m${n}` }),
    )
    socket.write(
      `POST ${MESSAGES}/import HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 9999999\r\n\r\n`,
    )
    socket.write(`${lines.join('\n')}\n{"session_id":"cut`)
    await expect
      .poll(async () => (await call(app, 'GET', `${MESSAGES}?limit=1`)).json.pagination.total, {
        timeout: 20_000,
      })
      .toBeGreaterThan(0)
    socket.destroy()
    await expect
      .poll(async () => (await call(app, 'GET', `${MESSAGES}?limit=1`)).json.pagination.total, {
        timeout: 20_000,
      })
      .toBe(3000)
    expect((await call(app, 'GET', '/health/ready')).status).toBe(200)
  })

  test('a slow reader holds the export back instead of filling memory', async () => {
    const big = 'x'.repeat(10_000)
    const line = (n: number) =>
      JSON.stringify({ ...bodies.opencode_events, id: `big-${n}`, event_data: { big } })
    // 5,000 documents of 10 kB: 50 MB, far more than sockets and two pages of 1,000 hold.
    for (let from = 0; from < 5000; from += 500)
      await load(EVENTS, Array.from({ length: 500 }, (_, n) => line(from + n)).join('\n'))
    const connected = once(app.server, 'connection')
    const client = request({ ...address, path: `${EVENTS}/export`, agent: false }).end()
    const [response] = await once(client, 'response')
    const [socket] = await connected
    response.pause()
    // Without backpressure all of it is read while the reader sleeps: other requests go by meanwhile.
    for (let n = 0; n < 40; n++) await call(app, 'GET', `${EVENTS}?limit=1`)
    expect(socket.bytesWritten).toBeLessThan(30_000_000)
    let bytes = 0
    response.on('data', (chunk: Buffer) => {
      bytes += chunk.length
    })
    response.resume()
    await once(response, 'end')
    expect(bytes).toBeGreaterThan(50_000_000)
  })
})

import type { FastifyInstance } from 'fastify'
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Answer, bodies, call, withQuery } from '../../support/http.js'
import { serverWithNotes } from '../../support/server.js'

const TASKS = '/api/v1/agent_tasks'
const NOTES = '/api/v1/notes'
const NDJSON = { 'content-type': 'application/x-ndjson' }
const task = bodies.agent_tasks ?? {}

let app: FastifyInstance
beforeAll(async () => {
  app = await serverWithNotes()
})

/** Everything that is stored, so that a refusal can be held to having changed nothing. */
const stored = async () =>
  (
    await Promise.all([
      call(app, 'GET', `${TASKS}/export`),
      call(app, 'GET', `${NOTES}/export`),
      call(app, 'GET', '/api/v1/collections'),
    ])
  ).map((answer) => answer.text.replaceAll(/"documents":\d+/g, ''))

function expectRefused(answer: Answer): void {
  expect(answer.status, answer.text).toBeGreaterThanOrEqual(400)
  expect(answer.status, answer.text).toBeLessThan(500)
  expect(answer.json).toMatchObject({
    success: false,
    code: expect.any(String),
    requestId: expect.any(String),
  })
  expect(answer.json.message).toMatch(/\w{3}/)
  expect(answer.text.length).toBeLessThan(20_000)
}

const nested = (levels: number) => `{"a":${'['.repeat(levels)}${']'.repeat(levels)}}`

describe('what is refused changes nothing', () => {
  let before: string[]
  beforeEach(async () => {
    before = await stored()
  })
  afterEach(async () => {
    expect(await stored()).toEqual(before)
    expect((await call(app, 'GET', '/health/ready')).status).toBe(200)
  })

  const value = (text: string) => text.replaceAll("'", '"')
  const badJson: [string, string | Buffer][] = [
    ['no JSON', '{'],
    ['nothing', ''],
    ['two values', '{}{}'],
    ['a NaN', '{"a":NaN}'],
    ['single quotes', "{'a':1}"],
    ['an array', '[]'],
    ['null', 'null'],
    ['a number', '7'],
    ['a string', '"x"'],
    ['U+0000 in a value', value("{'x':'a\\u0000'}")],
    ['U+0000 in a key', value("{'a\\u0000':1}")],
    ['half a surrogate in a value', value("{'x':['\\ud800']}")],
    ['half a surrogate in a key', value("{'\\udc00':1}")],
    ['1e400', '{"x":1e400}'],
    ['-1e400 far inside', '{"x":[{"y":-1e400}]}'],
    ['10,000 levels', nested(10_000)],
    ['400,000 levels', nested(400_000)],
    ['__proto__', '{"__proto__":{"polluted":1}}'],
    ['__proto__ inside', '{"x":[{"__proto__":{"polluted":1}}]}'],
    ['__proto__ with an escape', '{"\\u005f_proto__":{"polluted":1}}'],
    ['constructor.prototype', '{"constructor":{"prototype":{"polluted":1}}}'],
    ['bytes that are no UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])],
    ['an overlong encoding', Buffer.from([0x7b, 0x22, 0xc0, 0xaf, 0x22, 0x3a, 0x31, 0x7d])],
    ['more than the limit', `{"x":"${'x'.repeat(1024 * 1024)}"}`],
    ['a key of 500 kB', `{"${'k'.repeat(500_000)}":"\\u0000"}`],
  ]
  const writes: [string, string, (body: string | Buffer) => string | Buffer, Record<string, string>?][] = [
    ['POST', NOTES, (body) => body],
    ['POST', NOTES, (body) => body, { 'idempotency-key': 'hostile' }],
    ['PUT', `${NOTES}/n1`, (body) => body],
    ['PATCH', `${TASKS}/standing`, (body) => body],
    ['PATCH', `${TASKS}/standing`, (body) => body, { 'content-type': 'application/json-patch+json' }],
    ['POST', `${NOTES}/batch`, (body) => wrap('{"operations":[{"op":"create","item":', body, '}]}')],
    ['POST', '/api/v1/collections', (body) => wrap('{"name":"bad","schema":', body, '}')],
    ['PUT', '/api/v1/collections/notes', (body) => wrap('{"name":"notes","schema":', body, '}')],
    ['PATCH', '/api/v1/collections/notes', (body) => wrap('{"schema":', body, '}')],
  ]
  function wrap(before: string, body: string | Buffer, after: string): Buffer {
    return Buffer.concat([Buffer.from(before), Buffer.from(body), Buffer.from(after)])
  }
  for (const [method, url, make, headers = {}] of writes) {
    // An empty array is a JSON Patch.
    const bad = headers['content-type'] === undefined ? badJson : badJson.filter(([, body]) => body !== '[]')
    test.each(bad)(`${method} ${url} ${JSON.stringify(headers)} with %s`, async (_name, body) => {
      const answer = await call(app, method, url, { headers, body: make(body) })
      if (url.endsWith('/batch') && answer.status === 200) {
        expect(answer.json.success).toBe(false)
        expect(answer.json.data[0].status).toBe(400)
        expect(answer.json.data[0].message).toMatch(/\w{3}/)
      } else expectRefused(answer)
      expect(({} as Record<string, unknown>).polluted).toBeUndefined()
    })
  }

  test.each([
    ['POST', NOTES],
    ['PUT', `${NOTES}/n`],
    ['PATCH', `${TASKS}/standing`],
    ['POST', `${NOTES}/batch`],
    ['POST', `${NOTES}/import`],
    ['POST', '/api/v1/collections'],
    ['PUT', '/api/v1/collections/notes'],
    ['PATCH', '/api/v1/collections/notes'],
  ])('%s %s with another content type or none is 415 or 400', async (method, url) => {
    for (const type of [
      'text/plain',
      'application/xml',
      'application/x-www-form-urlencoded',
      'x',
      '/',
      'application/json5',
    ])
      expectRefused(await call(app, method, url, { headers: { 'content-type': type }, body: '{}' }))
    expectRefused(await call(app, method, url))
  })

  const queries: Record<string, string[]> = {
    limit: [
      '-1',
      '0',
      '1e9',
      'NaN',
      'Infinity',
      '1e400',
      'null',
      'true',
      '{}',
      '[]',
      '0x',
      ' ',
      '9'.repeat(400),
    ],
    offset: ['-1', 'NaN', '1e400', '1.5', '9007199254740993', 'x', '9'.repeat(400)],
    sort_by: ['', 'a..b', '.', '$where', 'x'.repeat(300), 'a\u0000b'],
    sort_order: ['', 'ASC', 'up', 'asc;'],
    created_after: [
      '',
      'x',
      '0',
      '2024-13-01',
      '2024-02-30T00:00:00Z',
      '2024-01-01T25:00:00Z',
      '+1',
      '2024-01-01\u0000',
    ],
    created_before: ['now', '9999-12-31T23:59:59-23:59', '2024-01-01T00:00:00+99:00', "'2024-01-01'"],
    session_id: ['\u0000', 'a\u0000b'],
    q: ['', '\u0000', 'a\u0000b', 'x'.repeat(1001)],
    count: ['', 'all'],
    fields: ['', ',', 'a,,b', '$x', 'a\u0000', 'a.'],
    cursor: [
      '',
      'x',
      '=',
      '\u0000',
      'bnVsbA',
      'W10',
      Buffer.from('["created_at","desc","",null,7]').toString('base64url'),
    ],
    filter: [
      '',
      '{',
      'null',
      '[]',
      '7',
      '{"a":{"$where":"1"}}',
      '{"$where":"1"}',
      '{"a":{"$regex":"x"}}',
      '{"$and":[]}',
      '{"$and":{}}',
      '{"a.":1}',
      '{"":1}',
      '{"a":{"$in":1}}',
      '{"a":{"$gt":null}}',
      '{"a":"\\u0000"}',
      '{"a\\u0000":1}',
      '{"a":{"$eq":"\\ud800"}}',
      '{"a":1e400}',
      '{"a":{"b":{"$gt":1}}}',
      '\u0000',
      nested(1000),
      '{"a":{"$not":7}}',
      '{"$or":[1]}',
      `{"a":{"$in":[${'1,'.repeat(1001)}1]}}`,
    ],
  }
  for (const [name, values] of Object.entries(queries)) {
    test(`lists refuse a bad ${name} and name it`, async () => {
      for (const bad of values) {
        const answer = await call(app, 'GET', withQuery(TASKS, { [name]: bad }))
        expectRefused(answer)
        expect(JSON.stringify(answer.json.details), bad).toContain(name)
      }
    })
  }

  test('parameters given twice and as arrays are refused, not guessed', async () => {
    for (const query of [
      'limit=1&limit=2',
      'session_id=a&session_id=b',
      'filter=%7B%7D&filter=%7B%7D',
      'q=a&q=b',
    ])
      expectRefused(await call(app, 'GET', `${TASKS}?${query}`))
    expectRefused(await call(app, 'DELETE', '/api/v1/collections/notes?confirm=notes&confirm=notes'))
  })

  test('what cannot be decoded in a URL is refused', async () => {
    for (const url of [
      `${TASKS}/%ff`,
      `${TASKS}/%`,
      `${TASKS}/%zz`,
      `${TASKS}/%c0%af`,
      `${TASKS}?session_id=%ff`,
      `${TASKS}?q=%`,
      `${TASKS}?filter=%7B%22a%22:%22%ff%22%7D`,
      '/api/v1/%ff',
      '/%',
    ])
      expectRefused(await call(app, 'GET', url))
  })

  test('ids that cannot be are refused wherever they stand', async () => {
    const ids = [
      '%00',
      'a%00b',
      '%0d%0aset-cookie:x',
      '%7f',
      'batch',
      'import',
      'export',
      'x'.repeat(513),
      '%F0%9F%98%80'.repeat(129),
      'y'.repeat(5000),
    ]
    for (const id of ids) {
      const body = { ...task }
      expectRefused(await call(app, 'GET', `${NOTES}/${id}/`))
      if (id !== 'export') expectRefused(await call(app, 'GET', `${NOTES}/${id}`))
      expectRefused(await call(app, 'PUT', `${NOTES}/${id}`, { body }))
      expectRefused(await call(app, 'PATCH', `${NOTES}/${id}`, { body }))
      expectRefused(await call(app, 'DELETE', `${NOTES}/${id}`))
      expectRefused(
        await call(app, 'GET', `${NOTES}/${id}x%00`, { headers: { 'x-dualstore-read-from': 'mirror' } }),
      )
    }
    for (const id of ['', 7, null, {}, [], '\u0000', '\ud800', 'a\nb', '.', '..', 'changes', 'é'.repeat(257)])
      expectRefused(await call(app, 'POST', NOTES, { body: { id } }))
  })

  test('collections that are none are 404 or 400 on every route', async () => {
    const names = [
      'nothing',
      '%00',
      "x'--",
      'x"',
      'a.b',
      '..%2f',
      'documents',
      '__proto__',
      'constructor',
      'X',
      'é',
      'x'.repeat(600),
      'stream',
      'keys',
    ]
    for (const name of names) {
      const url = `/api/v1/${name}`
      // These are routes of their own; the first never ends.
      if (!['stream', 'keys'].includes(name)) expectRefused(await call(app, 'GET', url))
      expectRefused(await call(app, 'GET', `${url}/id`))
      expectRefused(await call(app, 'GET', `${url}/export`))
      expectRefused(await call(app, 'POST', url, { body: {} }))
      expectRefused(await call(app, 'PUT', `${url}/id`, { body: {} }))
      expectRefused(await call(app, 'PATCH', `${url}/id`, { body: {} }))
      expectRefused(await call(app, 'DELETE', `${url}/id`))
      expectRefused(
        await call(app, 'POST', `${url}/batch`, { body: { operations: [{ op: 'create', item: {} }] } }),
      )
      expectRefused(await call(app, 'POST', `${url}/import`, { headers: NDJSON, body: '{}' }))
      expectRefused(await call(app, 'GET', `/api/v1/collections/${name}`))
      expectRefused(await call(app, 'PATCH', `/api/v1/collections/${name}`, { body: { label: 'x' } }))
      expectRefused(await call(app, 'DELETE', `/api/v1/collections/${name}?confirm=${name}`))
    }
  })

  test('unknown routes and methods are 404', async () => {
    for (const [method, url] of [
      ['POST', '/'],
      ['DELETE', TASKS],
      ['PUT', TASKS],
      ['PATCH', TASKS],
      ['POST', `${TASKS}/standing`],
      ['DELETE', '/api/v1/collections'],
      ['GET', '//'],
      ['GET', '/api/v2/agent_tasks'],
      ['DELETE', '/health'],
      ['GET', '/api/v1/agent_tasks/../../../etc/passwd'],
    ] as const)
      expectRefused(await call(app, method, url))
  })

  test('headers are checked', async () => {
    const post = (headers: Record<string, string>) => call(app, 'POST', NOTES, { headers, body: {} })
    expectRefused(await post({ 'idempotency-key': '' }))
    expectRefused(await post({ 'idempotency-key': 'x'.repeat(256) }))
    expectRefused(await post({ 'x-dualstore-consistency': 'Strict' }))
    const answer = await call(app, 'GET', `${TASKS}/standing`, { headers: { 'x-request-id': 'a b\u0001' } })
    expect(answer.headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/)
  })

  test('a value too long for its index is refused', async () => {
    // Random, because PostgreSQL would compress anything regular below the limit.
    const key = Array.from({ length: 10_000 }, () => String.fromCharCode(33 + Math.random() * 90)).join('')
    expectRefused(await call(app, 'POST', NOTES, { body: { key } }))
    const { json } = await call(app, 'POST', `${NOTES}/import`, {
      headers: NDJSON,
      body: JSON.stringify({ key }),
    })
    expect(json.data).toMatchObject({ created: 0, failed: 1 })
  })

  test.each<[string, Record<string, unknown>]>([
    ['a reserved name', { name: 'stream' }],
    ['quotes', { name: 'a"b' }],
    ['a dot', { name: 'a.b' }],
    ['a slash', { name: 'a/b' }],
    ['a long name', { name: 'a'.repeat(51) }],
    ['no name', { name: undefined }],
    ['an unknown member', { colour: 'red' }],
    ['a schema that is none', { schema: { type: 'objct' } }],
    ['an unknown keyword', { schema: { requird: ['a'] } }],
    ['a list as schema', { schema: [] }],
    ['a schema of strings', { schema: { type: 'string' } }],
    ['an asynchronous schema', { schema: { $async: true, type: 'object', required: ['x'] } }],
    ['a reference to nowhere', { schema: { $ref: 'https://example.com/x.json' } }],
    ['a bad pattern', { schema: { properties: { a: { type: 'string', pattern: '(' } } } }],
    ['server fields', { schema: { properties: { id: { type: 'string' } } } }],
    ['U+0000', { schema: { title: '\u0000' } }],
    ['a bad index', { indexes: [{ fields: [] }] }],
    ['an index of operators', { indexes: [{ fields: ['$x'] }] }],
    ['an index of five', { indexes: [{ fields: ['a', 'b', 'c', 'd', 'e'] }] }],
    ['an unknown index', { indexes: [{ type: 'vector' }] }],
    ['a bad prefix', { id_prefix: 'a b' }],
    ['an empty label', { label: '' }],
    ['a bad mapping', { mirror: { collection: 'a$b' } }],
    ["another collection's mirror", { mirror: { collection: 'session_messages' } }],
  ])('a collection with %s is refused', async (_name, change) => {
    const body = { name: 'hostile', schema: { type: 'object' }, ...change }
    expectRefused(await call(app, 'POST', '/api/v1/collections', { body }))
  })
})

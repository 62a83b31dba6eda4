import type { FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test, vi } from 'vitest'
import { createServer } from '../../../src/server/index.js'
import { type TestDatabase, testDatabase } from '../../support/database.js'
import { bodies, call, create, expectError } from '../../support/http.js'
import { atEndOfFile } from '../../support/leaks.js'
import { mirrorKinds, testServer } from '../../support/server.js'

const COLLECTIONS = '/api/v1/collections'
const MERGE = { 'content-type': 'application/json' }
const schema = {
  type: 'object',
  required: ['title'],
  properties: { title: { type: 'string' }, stars: { type: 'integer' }, tags: { type: 'array' } },
  additionalProperties: false,
}

let first: FastifyInstance
let second: FastifyInstance
let database: TestDatabase
beforeAll(async () => {
  database = await testDatabase()
  const open = async () => {
    const app = await createServer({ databaseUrl: database.url, dualWriteEnabled: false, logLevel: 'silent' })
    atEndOfFile(() => app.close())
    return app
  }
  first = await open()
  second = await open()
})

const make = (name: string, more: object = {}) =>
  call(first, 'POST', COLLECTIONS, { body: { name, schema, ...more } })
const change = (name: string, body: object, query = '') =>
  call(first, 'PATCH', `${COLLECTIONS}/${name}${query}`, { headers: MERGE, body })
const show = async (name: string) => (await call(first, 'GET', `${COLLECTIONS}/${name}`)).json.data
const drop = (name: string, confirm?: string) =>
  call(first, 'DELETE', `${COLLECTIONS}/${name}${confirm === undefined ? '' : `?confirm=${confirm}`}`)

test('the three legacy collections are there, shipped, and stay', async () => {
  const { json } = await call(first, 'GET', COLLECTIONS)
  const shipped = json.data.filter((collection: { shipped: boolean }) => collection.shipped)
  expect(shipped.map((collection: { name: string }) => collection.name)).toEqual([
    'agent_tasks',
    'opencode_events',
    'session_messages',
  ])
  expectError(await drop('agent_tasks', 'agent_tasks'), 409, 'CONFLICT')
})

test('a new collection is told whole, with what was left out decided', async () => {
  const made = await make('plain_notes', { indexes: [{ fields: ['stars', 'created_at'] }, { type: 'text' }] })
  expect(made.status).toBe(201)
  expect(made.json).toEqual({
    success: true,
    data: {
      name: 'plain_notes',
      label: 'Document',
      schema,
      id_prefix: 'plain-notes',
      indexes: [{ fields: ['stars', 'created_at'] }, { type: 'text' }],
      mirror: {
        collection: 'plain_notes',
        text: null,
        metadata: { title: 'title', stars: 'stars', tags: 'tags' },
        spread: null,
      },
      shipped: false,
      version: 1,
      created_at: expect.any(String),
      updated_at: expect.any(String),
      documents: 0,
    },
  })
  expect(await show('plain_notes')).toEqual(made.json.data)
  expectError(await make('plain_notes'), 409, 'ALREADY_EXISTS')
})

test('of ten concurrent creations with one name on two servers one wins', async () => {
  const answers = await Promise.all(
    Array.from({ length: 10 }, (_, n) =>
      call(n % 2 === 0 ? first : second, 'POST', COLLECTIONS, { body: { name: 'contested', schema } }),
    ),
  )
  expect(answers.map((answer) => answer.status).sort()).toEqual([201, ...Array(9).fill(409)])
})

test('what one server makes another sees at once', async () => {
  for (let n = 0; n < 5; n++) {
    const name = `seen_${n}`
    expectError(await call(second, 'GET', `/api/v1/${name}`), 404)
    expect((await make(name)).status).toBe(201)
    expect((await call(second, 'POST', `/api/v1/${name}`, { body: { title: 'x' } })).status).toBe(201)
  }
})

test('a change made by one server reaches another, and none is overwritten', async () => {
  await make('shared')
  await call(second, 'GET', '/api/v1/shared')
  const properties = { ...schema.properties, extra: { type: 'string' } }
  await change('shared', { schema: { ...schema, properties } })
  const changed = await call(second, 'PATCH', `${COLLECTIONS}/shared`, { body: { label: 'Shared thing' } })
  expect(changed.json.data.collection).toMatchObject({
    label: 'Shared thing',
    schema: { properties },
    version: 3,
  })
  await expect
    .poll(async () => (await call(first, 'GET', '/api/v1/shared/x')).json.error)
    .toBe('Shared thing not found')
})

test('documents that no longer fit are reported, and kept unless asked otherwise', async () => {
  await make('strict_notes')
  const stored = []
  for (const item of [{ title: 'a', stars: 1 }, { title: 'b' }, { title: 'c', tags: [] }])
    stored.push(await create(first, 'strict_notes', item))
  const next = {
    ...schema,
    required: ['title', 'stars'],
    properties: { ...schema.properties, title: { enum: ['a', 'b'] } },
  }
  const dry = await change('strict_notes', { schema: next }, '?dry_run=true')
  expect(dry.json.data.misfits).toMatchObject({ checked: 3, count: 2 })
  expect((await show('strict_notes')).schema).toEqual(schema)
  const refused = await change('strict_notes', { schema: next })
  expectError(refused, 409, 'SCHEMA_MISFIT')
  expect(refused.json.misfits.count).toBe(2)
  expect(refused.json.misfits.sample.map((misfit: { id: string }) => misfit.id).sort()).toEqual(
    [stored[1]?.id, stored[2]?.id].sort(),
  )
  for (const misfit of refused.json.misfits.sample) expect(misfit.field).toMatch(/^item\.(stars|title)$/)
  expect((await show('strict_notes')).version).toBe(1)
  const allowed = await change('strict_notes', { schema: next }, '?allow_misfits=true')
  expect([allowed.status, allowed.json.data.misfits.count]).toEqual([200, 2])
  expect((await call(first, 'GET', `/api/v1/strict_notes/${stored[1]?.id}`)).json.data).toEqual(stored[1])
  expectError(await call(first, 'POST', '/api/v1/strict_notes', { body: { title: 'a' } }), 400)
})

test('PUT replaces schema and indexes, keeps the label it is not given, and cannot rename', async () => {
  await make('replaced', { label: 'Old', indexes: [{ fields: ['stars'] }] })
  const url = `${COLLECTIONS}/replaced`
  expectError(await call(first, 'PUT', url, { body: { name: 'other', schema } }), 400)
  const answer = await call(first, 'PUT', url, { body: { name: 'replaced', schema: { type: 'object' } } })
  expect(answer.json.data.collection).toMatchObject({
    label: 'Old',
    indexes: [],
    schema: { type: 'object' },
  })
  expectError(await call(first, 'PUT', `${COLLECTIONS}/nothing`, { body: { name: 'nothing', schema } }), 404)
  expectError(await change('replaced', { name: 'other' }), 400)
})

test("the mapping to the mirror changes only while the collection is empty, and is nobody else's", async () => {
  await make('mapped')
  expect((await change('mapped', { mirror: { text: 'title' } })).json.data.collection.mirror.text).toBe(
    'title',
  )
  const taken = await change('mapped', { mirror: { collection: 'agent_tasks' } })
  expectError(taken, 400, 'INVALID_DEFINITION')
  const item = await create(first, 'mapped', { title: 'x' })
  expectError(await change('mapped', { mirror: { text: null } }), 409, 'CONFLICT')
  await call(first, 'DELETE', `/api/v1/mapped/${item.id}`)
  // Once the mirror has caught up.
  await vi.waitFor(async () => {
    expect((await change('mapped', { mirror: { text: null } })).status).toBe(200)
  }, 10_000)
})

describe('indexes', () => {
  const indexes = async (name: string) =>
    (
      await database.pool.query(
        `SELECT indexdef FROM pg_indexes WHERE schemaname = 'dualstore' AND tablename = $1 AND indexname LIKE 'dsx%'`,
        [`documents_${name}`],
      )
    ).rows.map((row) => row.indexdef)

  test('a declared index is made, used, and removed with its declaration', async () => {
    await make('indexed', { indexes: [{ fields: ['title'] }] })
    const lines = Array.from({ length: 3000 }, (_, n) => JSON.stringify({ title: `t${n}` })).join('\n')
    await call(first, 'POST', '/api/v1/indexed/import', {
      body: lines,
      headers: { 'content-type': 'application/x-ndjson' },
    })
    expect(await indexes('indexed')).toHaveLength(1)
    await database.pool.query('ANALYZE dualstore.documents_indexed')
    // The condition that filterSql writes for {"title": "t77"}.
    const { rows } = await database.pool.query(
      `EXPLAIN SELECT d.item::text FROM dualstore.documents d WHERE d.collection = 'indexed'
       AND (d.item #>> '{title}') COLLATE "C" = 't77'`,
    )
    expect(JSON.stringify(rows)).toMatch(/Index Scan[^"]*dsx_/)
    await change('indexed', { indexes: [{ type: 'text' }] })
    expect(await indexes('indexed')).toEqual([expect.stringContaining('USING gin')])
    expect((await call(first, 'GET', '/api/v1/indexed?q=t77')).json.pagination.total).toBe(1)
    await change('indexed', { indexes: [] })
    expect(await indexes('indexed')).toEqual([])
  })

  test('an index that a stored document does not fit is refused, and everything stays', async () => {
    await make('long_notes', { indexes: [{ fields: ['stars'] }] })
    const title = Array.from({ length: 9000 }, () => String.fromCharCode(33 + Math.random() * 90)).join('')
    await create(first, 'long_notes', { title })
    const before = await indexes('long_notes')
    expectError(await change('long_notes', { indexes: [{ fields: ['title'] }] }), 409, 'CONFLICT')
    expect(await indexes('long_notes')).toEqual(before)
    expect((await show('long_notes')).indexes).toEqual([{ fields: ['stars'] }])
  })
})

describe('dropping', () => {
  test('asks for the name', async () => {
    await make('kept')
    for (const confirm of [undefined, '', 'KEPT', 'agent_tasks'])
      expectError(await drop('kept', confirm), 400, 'CONFIRMATION_REQUIRED')
    expectError(await drop('nothing', 'nothing'), 404, 'COLLECTION_NOT_FOUND')
    expect((await show('kept')).name).toBe('kept')
  })

  test('deletes documents and definition, on every server; the name is free again', async () => {
    await make('gone')
    for (const title of ['a', 'b', 'c']) await create(first, 'gone', { title })
    await call(second, 'GET', '/api/v1/gone')
    const answer = await drop('gone', 'gone')
    expect(answer.json).toEqual({ success: true, data: { name: 'gone', deleted: 3 } })
    for (const url of ['/api/v1/gone', `${COLLECTIONS}/gone`, '/api/v1/gone/x'])
      expectError(await call(first, 'GET', url), 404, 'COLLECTION_NOT_FOUND')
    expectError(
      await call(second, 'POST', '/api/v1/gone', { body: { title: 'late' } }),
      404,
      'COLLECTION_NOT_FOUND',
    )
    expectError(await drop('gone', 'gone'), 404, 'COLLECTION_NOT_FOUND')
    const again = await make('gone', { label: 'Back' })
    expect(again.json.data).toMatchObject({ documents: 0, label: 'Back' })
    await create(first, 'gone', { title: 'new' })
    expect((await call(second, 'GET', '/api/v1/gone')).json.pagination.total).toBe(1)
  })

  test('a write that is committed while a drop waits for it is dropped too', async () => {
    await make('busy')
    const writer = await database.pool.connect()
    try {
      await writer.query('BEGIN')
      await writer.query(
        `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
         VALUES ('busy', 'late', '{"id": "late"}', 1, 1)`,
      )
      const dropping = drop('busy', 'busy')
      const waits = async () =>
        (
          await database.pool.query(
            `SELECT FROM pg_locks WHERE NOT granted AND relation = 'dualstore.documents_busy'::regclass`,
          )
        ).rowCount !== 0
      while (!(await waits())) await database.pool.query('SELECT pg_sleep(0.01)')
      await writer.query('COMMIT')
      expect((await dropping).json).toMatchObject({ success: true, data: { deleted: 1 } })
    } finally {
      writer.release()
    }
  })

  test('a drop that was interrupted goes on when asked again', async () => {
    await make('half')
    await create(first, 'half', { title: 'left' })
    // What a server that was killed in the middle of a drop leaves behind.
    await database.pool.query(`UPDATE dualstore.collections SET state = 'dropping' WHERE name = 'half'`)
    expectError(await make('half'), 409, 'ALREADY_EXISTS')
    expect((await drop('half', 'half')).json.data.deleted).toBe(1)
    expect((await make('half')).status).toBe(201)
  })
})

test('a schema may name fields as every object has them', async () => {
  const odd = { type: 'object', required: ['constructor'], properties: { toString: { type: 'string' } } }
  await make('odd_names', { schema: odd })
  const post = (body: string) => call(first, 'POST', '/api/v1/odd_names', { body })
  expectError(await post('{}'), 400)
  expectError(await post('{"constructor":1,"toString":1}'), 400)
  expect((await post('{"constructor":1}')).status).toBe(201)
})

describe.each(mirrorKinds)('a custom collection with the %s mirror', (kind) => {
  test('behaves as a shipped one on every route, and leaves the mirror when dropped', async () => {
    const app = await testServer(kind)
    const mirror = { text: 'title', metadata: { stars: 'rating' } }
    await call(app, 'POST', COLLECTIONS, {
      body: { name: 'books', label: 'Book', schema, id_prefix: 'book', mirror },
    })
    const url = '/api/v1/books'
    const strict = { 'x-dualstore-consistency': 'strict' }
    const fromMirror = { 'x-dualstore-read-from': 'mirror' }
    const made = await call(app, 'POST', url, {
      headers: strict,
      body: { title: 'T', stars: 5, tags: [{ a: [1] }] },
    })
    const { id } = made.json.data
    expect(id).toMatch(/^book_\d{13}_[0-9a-z]{9}$/)
    expect((await call(app, 'GET', `${url}/${id}`, { headers: fromMirror })).json).toEqual(made.json)
    expect((await call(app, 'HEAD', `${url}/${id}`)).status).toBe(200)
    const missing = await call(app, 'GET', `${url}/x`)
    expect([missing.status, missing.json.error]).toEqual([404, 'Book not found'])
    expectError(await call(app, 'POST', url, { body: { title: 'T', colour: 'red' } }), 400)
    expect((await call(app, 'PUT', `${url}/p`, { body: { title: 'P' } })).status).toBe(201)
    expect(
      (await call(app, 'PATCH', `${url}/p`, { headers: strict, body: { stars: 1 } })).json.data.stars,
    ).toBe(1)
    const operations = [
      { op: 'create', item: { title: 'B', id: 'b' } },
      { op: 'delete', id: 'p' },
    ]
    expect(
      (await call(app, 'POST', `${url}/batch`, { headers: strict, body: { operations } })).json.success,
    ).toBe(true)
    const exported = await call(app, 'GET', `${url}/export`)
    expect(exported.text.trim().split('\n')).toHaveLength(2)
    const imported = await call(app, 'POST', `${url}/import?on_conflict=replace`, {
      headers: { 'content-type': 'application/x-ndjson' },
      body: exported.text,
    })
    expect(imported.json.data).toMatchObject({ replaced: 2, failed: 0 })
    const last = await call(app, 'DELETE', `${url}/b`, { headers: strict })
    const list = await call(app, 'GET', url, { headers: fromMirror })
    expect(list.json.data).toEqual([made.json.data])
    expect(list.json).toEqual((await call(app, 'GET', url)).json)
    expect(last.status).toBe(200)

    await call(app, 'DELETE', `${COLLECTIONS}/books?confirm=books`)
    // Its own position follows every delete of the drop.
    await call(app, 'POST', '/api/v1/agent_tasks', { headers: strict, body: bodies.agent_tasks })
    await call(app, 'POST', COLLECTIONS, { body: { name: 'books', schema, mirror } })
    expect((await call(app, 'GET', url, { headers: fromMirror })).json.data).toEqual([])
  })
})

import type { FastifyInstance } from 'fastify'
import { beforeAll, expect, test } from 'vitest'
import { bodies, call, expectError, withQuery } from '../../support/http.js'
import { testServer } from '../../support/server.js'

const EVENTS = '/api/v1/opencode_events'
const event = bodies.opencode_events ?? {}

let app: FastifyInstance
beforeAll(async () => {
  app = await testServer()
  // Many ties: five creation times, seven values of n, some of another type, some missing.
  const lines = Array.from({ length: 500 }, (_, index) =>
    JSON.stringify({
      ...event,
      id: `e${String(index).padStart(3, '0')}`,
      created_at: `2024-01-0${(index % 5) + 1}T00:00:00Z`,
      source: index % 2 === 0 ? 'even' : 'odd',
      event_data: { text: index % 10 === 0 ? 'needle in Häystack' : 'hay', n: { x: index } },
      ...(index % 11 !== 0 && { n: index % 13 === 0 ? `s${index % 3}` : index % 7 }),
    }),
  )
  await load(lines)
})

const load = (lines: readonly string[]) =>
  call(app, 'POST', `${EVENTS}/import`, {
    body: lines.join('\n'),
    headers: { 'content-type': 'application/x-ndjson' },
  })
const list = async (query: Record<string, string | number>) => call(app, 'GET', withQuery(EVENTS, query))

test.each([
  ['created_at', 'desc'],
  ['created_at', 'asc'],
  ['id', 'asc'],
  ['n', 'asc'],
  ['n', 'desc'],
  ['event_data.n.x', 'desc'],
  ['no_such_field', 'asc'],
])(
  'a cursor walk by %s %s skips and repeats nothing while documents come and go',
  async (sort_by, sort_order) => {
    const seen: string[] = []
    const query = { sort_by, sort_order, limit: 37, count: 'none' }
    let cursor: string | null = null
    for (let page = 0; ; page++) {
      const { json } = await list(cursor === null ? query : { ...query, cursor })
      seen.push(...json.data.map((item: { id: string }) => item.id))
      expect(json.pagination).toMatchObject({
        total: null,
        limit: 37,
        has_more: json.pagination.next_cursor !== null,
      })
      cursor = json.pagination.next_cursor
      if (cursor === null) break
      const comer = `comer-${sort_by}-${sort_order}-${page}`
      await load([
        JSON.stringify({
          ...event,
          id: comer,
          created_at: `2024-01-0${(page % 5) + 1}T00:00:00Z`,
          n: page % 7,
        }),
      ])
      if (page > 2) await call(app, 'DELETE', `${EVENTS}/comer-${sort_by}-${sort_order}-${page - 2}`)
    }
    const stayed = seen.filter((id) => id.startsWith('e'))
    expect(new Set(seen).size).toBe(seen.length)
    expect(new Set(stayed).size).toBe(500)
  },
)

test('pages by cursor are the pages by offset', async () => {
  const query = { sort_by: 'n', limit: 50, filter: '{"id":{"$lt":"f"},"source":"even"}' }
  const whole = await list({ ...query, limit: 1000 })
  const seen = []
  for (let cursor = ''; ; ) {
    const { json } = await list(cursor === '' ? query : { ...query, cursor })
    seen.push(...json.data)
    if (json.pagination.next_cursor === null) break
    cursor = json.pagination.next_cursor
  }
  expect(seen).toEqual(whole.json.data)
})

test('a cursor of another order, filter, search or collection is refused, as is a damaged one', async () => {
  const { json } = await list({ limit: 1 })
  const cursor = json.pagination.next_cursor
  for (const change of [
    { sort_order: 'asc' },
    { sort_by: 'id' },
    { filter: '{"source":"odd"}' },
    { q: 'needle' },
    { session_id: 'x' },
  ] as Record<string, string>[])
    expectError(await list({ limit: 1, cursor, ...change }), 400, 'INVALID_CURSOR')
  expectError(await call(app, 'GET', withQuery('/api/v1/agent_tasks', { cursor })), 400, 'INVALID_CURSOR')
  const forged = Buffer.from('["created_at","desc","x","1\\u0000","a"]').toString('base64url')
  for (const damaged of ['', 'x', `${cursor}x`, cursor.slice(1), forged, `${cursor}%00`, '😀'])
    expectError(await list({ cursor: damaged }), 400, 'INVALID_CURSOR')
})

test('count is exact, estimated or left out', async () => {
  const filter = '{"id":{"$lt":"f"},"source":"odd"}'
  expect((await list({ filter })).json.pagination.total).toBe(250)
  expect((await list({ filter, count: 'none' })).json.pagination).toMatchObject({
    total: null,
    has_more: true,
  })
  const estimated = await list({ filter, count: 'estimated' })
  expect(estimated.json.pagination.total).toEqual(expect.any(Number))
  expectError(await list({ count: 'guess' }), 400)
})

test('q finds words in every string, whatever their case', async () => {
  const only = { filter: '{"id":{"$lt":"f"}}' }
  expect((await list({ ...only, q: 'NEEDLE' })).json.pagination.total).toBe(50)
  expect((await list({ ...only, q: 'needle häystack' })).json.pagination.total).toBe(50)
  expect((await list({ ...only, q: 'needle -häystack' })).json.pagination.total).toBe(0)
  for (const q of ['"', "'", '& | !', ':*', '\\', '(((', ' '])
    expect((await list({ ...only, q })).status).toBe(200)
})

test('a document too large to be searched breaks no search', async () => {
  const words = Array.from({ length: 140_000 }, (_, index) => `word${index.toString(36)}x`).join(' ')
  const { json } = await call(app, 'POST', EVENTS, { body: { ...event, event_data: { words } } })
  expect(json.success).toBe(true)
  const found = await list({ q: 'needle', filter: '{"id":{"$lt":"f"}}' })
  expect(found.status, found.text).toBe(200)
  await call(app, 'DELETE', `${EVENTS}/${json.data.id}`)
})

test('fields picks fields, id always among them', async () => {
  const { json } = await list({ filter: '{"id":"e010"}', fields: 'event_data.n, source,nothing,source.x' })
  expect(json.data).toEqual([{ id: 'e010', source: 'even', event_data: { n: { x: 10 } } }])
  for (const fields of ['', 'a,,b', '$a', 'a..b', Array(102).fill('a').join(',')])
    expectError(await list({ fields }), 400)
})

test('created_at and updated_at are in reach of filter and sort', async () => {
  const query = {
    filter: '{"created_at":{"$gte":"2024-01-05"},"id":{"$gte":"e","$lt":"f"}}',
    sort_by: 'updated_at',
  }
  expect((await list(query)).json.pagination.total).toBe(100)
})

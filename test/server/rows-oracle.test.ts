import fc from 'fast-check'
import type { FastifyInstance } from 'fastify'
import { beforeAll, expect, test } from 'vitest'
import { matches } from '../../src/server/filter/matches.js'
import { parseFilter } from '../../src/server/filter/parse.js'
import type { Item, Json } from '../../src/server/schemas/item.js'
import { isRestricted } from '../../src/server/services/principal.js'
import { openStream } from '../support/event-stream.js'
import { type Answer, call, withQuery } from '../support/http.js'
import { as, withPrincipals } from '../support/principals.js'
import { testServer } from '../support/server.js'
import { body, filter } from './filter/arbitraries.js'

/*
 * Random documents are written by somebody unrestricted and, where they may, by keys with random rows, all at once. A
 * key's list, export, count, reads, changes and stream are held against the documents that its rows match.
 */

const IDS = ['d0', 'd1', 'd2', 'd3', 'd4']
let app: FastifyInstance
let base: string
let runs = 0
beforeAll(async () => {
  app = await testServer('embedded', {}, withPrincipals)
  base = await app.listen({ host: '127.0.0.1', port: 0 })
})

/** Rows that some documents are inside of and some are not; random filters are often one or the other. */
const rowsOf = fc.oneof(
  filter,
  fc.constantFrom<object>(
    { a: 'in' },
    { a: { $ne: 'in' } },
    { a: { $in: ['in', null] }, b: { $exists: false } },
  ),
)
const bodyOf = fc.oneof(
  // Refused, wherever it stands.
  body.filter((value) => !JSON.stringify(value).includes('__proto__')),
  fc.record(
    { a: fc.constantFrom<Json>('in', 'out', ['out', 'in'], null), b: fc.constant(1) },
    { requiredKeys: ['a'] },
  ),
)

const write = fc.record({
  kind: fc.constantFrom('put', 'put', 'patch', 'delete', 'import'),
  id: fc.constantFrom(...IDS),
  body: bodyOf,
  /** By a key, or by somebody who may do everything. */
  restricted: fc.boolean(),
})

const byId = (items: readonly Item[]) => new Map(items.map((item) => [item.id, item]))
const itemsOf = (ndjson: string): Item[] =>
  ndjson.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Item]))

/** What a follower holds who applies the events to what it held before. */
function applied(
  held: Map<string, Item>,
  events: readonly { type: string; data: Item }[],
): Map<string, Item> {
  const now = new Map(held)
  for (const { type, data } of events) {
    // What enters is not held yet, and what changes or leaves is.
    expect(now.has(data.id), JSON.stringify(events)).toBe(type !== 'insert')
    if (type === 'delete') now.delete(data.id)
    else now.set(data.id, data)
  }
  return now
}

test('a key with rows never sees, counts, is told of or touches a document outside of them', async () => {
  await fc.assert(
    fc.asyncProperty(rowsOf, fc.array(write, { minLength: 1, maxLength: 25 }), async (rowFilter, writes) => {
      const name = `rows${runs++}`
      await call(app, 'POST', '/api/v1/collections', { body: { name, schema: { type: 'object' } } })
      const rows = parseFilter(rowFilter, 'rows')
      const restricted = as({ id: 'key:k', rows: rowFilter })
      const path = `/api/v1/${name}`
      const asKey = (to: string) => call(app, 'GET', `${path}${to}`, { headers: restricted })
      const start = (await asKey('/changes')).json.position
      const stream = await openStream(`${base}/api/v1/stream/${name}`, restricted)
      await stream.until(({ data }) => data.type === 'ready')

      const perform = async (one: (typeof writes)[number]) => {
        const headers = one.restricted ? restricted : {}
        const at = `${path}/${one.id}`
        if (one.kind === 'delete') return call(app, 'DELETE', at, { headers })
        if (one.kind === 'patch') return call(app, 'PATCH', at, { headers, body: one.body })
        if (one.kind === 'put') return call(app, 'PUT', at, { headers, body: one.body })
        const line = JSON.stringify({ ...one.body, id: one.id })
        const type = { 'content-type': 'application/x-ndjson' }
        return call(app, 'POST', `${path}/import?on_conflict=replace`, {
          headers: { ...headers, ...type },
          body: line,
        })
      }
      const answers = await Promise.all(writes.map(perform))
      answers.forEach((answer, index) => {
        expect(answer.status, answer.text).toBeLessThan(500)
        const one = writes[index] as (typeof writes)[number]
        const item = answer.json?.data
        // What a key is answered to have written is inside.
        if (one.restricted && answer.status < 300 && (one.kind === 'put' || one.kind === 'patch')) {
          expect(matches(rows, item), answer.text).toBe(true)
        }
      })

      const all = itemsOf((await call(app, 'GET', `${path}/export`)).text)
      const inside = byId(all.filter((item) => matches(rows, item)))
      const sorted = [...inside.values()].sort((a, b) => (a.id < b.id ? -1 : 1))

      expect(itemsOf((await asKey('/export')).text)).toEqual(sorted)
      // Rows that restrict nothing leave estimates as they are.
      for (const count of isRestricted({ rows }) ? ['exact', 'estimated'] : ['exact']) {
        const list = await asKey(`?sort_by=id&sort_order=asc&count=${count}`)
        expect([list.json.data, list.json.pagination.total]).toEqual([sorted, sorted.length])
      }
      expect(await paged(asKey)).toEqual(sorted)
      for (const id of IDS) {
        const answer = await asKey(`/${id}`)
        expect([answer.status, answer.json.data], answer.text).toEqual(
          inside.has(id) ? [200, inside.get(id)] : [404, undefined],
        )
      }

      const told = (await asKey(`/changes?since=${start}&limit=1000`)).json
      expect(told.has_more).toBe(false)
      for (const { data } of told.data) expect(matches(rows, data), JSON.stringify(data)).toBe(true)
      expect(applied(new Map(), told.data)).toEqual(inside)

      // The stream tells the same. Its end is a heartbeat away: wait for as many events instead.
      if (told.data.length > 0) {
        const last = told.data.at(-1).position
        await stream.until(({ id }) => id === last)
      }
      expect(stream.changes().map(({ data }) => data)).toEqual(told.data)
      stream.close()

      // The log itself: a key has never written over or deleted what it could not see.
      const log = (await call(app, 'GET', `/api/v1/audit/documents?collection=${name}&limit=1000`)).json.data
      const everything = (await call(app, 'GET', `${path}/changes?since=${start}&limit=1000`)).json.data
      const before = new Map<string, Item>()
      everything.forEach((event: { type: string; data: Item; position: string }) => {
        const author = log.find((entry: { position: string }) => entry.position === event.position).author
        const held = before.get(event.data.id)
        if (author === 'key:k') {
          if (held !== undefined) expect(matches(rows, held)).toBe(true)
          if (event.type !== 'delete') expect(matches(rows, event.data)).toBe(true)
        }
        if (event.type === 'delete') before.delete(event.data.id)
        else before.set(event.data.id, event.data)
      })
    }),
    { numRuns: Number(process.env.ROWS_RUNS ?? 25), endOnFailure: true },
  )
}, 120_000)

async function paged(asKey: (to: string) => Promise<Answer>): Promise<Item[]> {
  const items: Item[] = []
  for (let cursor: string | null = ''; cursor !== null; ) {
    const query = {
      sort_by: 'id',
      sort_order: 'asc',
      limit: 2,
      count: 'none',
      ...(cursor !== '' && { cursor }),
    }
    const { json } = await asKey(withQuery('', query))
    items.push(...json.data)
    cursor = json.pagination.next_cursor
  }
  return items
}

import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Pool, Queryable } from '../../../src/server/db/pool.js'
import { matches } from '../../../src/server/filter/matches.js'
import { parseFilter } from '../../../src/server/filter/parse.js'
import type { Json } from '../../../src/server/schemas/item.js'
import { filterSql } from '../../../src/server/store/filter-sql.js'
import { Params } from '../../../src/server/store/params.js'
import { testDatabase } from '../../support/database.js'
import { body, filter, numbers, strings } from '../filter/arbitraries.js'

let pool: Pool

beforeAll(async () => {
  // Where nothing may depend on the database's own order of text.
  pool = (await testDatabase({ english: true })).pool
  await pool.query(`SELECT dualstore.create_partition('probe')`)
})

type Items = readonly { id: string; [field: string]: Json }[]

/** Runs `work` on a connection that sees these documents, and takes them back afterwards. */
async function withItems(items: Items, work: (on: Queryable) => Promise<void>): Promise<void> {
  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    await client.query(
      `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
       SELECT 'probe', i ->> 'id', i, 0, 0 FROM jsonb_array_elements($1) i`,
      [JSON.stringify(items)],
    )
    await work(client)
  } finally {
    await client.query('ROLLBACK')
    client.release()
  }
}

async function select(on: Queryable, input: unknown, schema: unknown = {}): Promise<string[]> {
  const params = new Params()
  const collection = params.add('probe')
  const where = filterSql(parseFilter(input), schema, params)
  const { rows } = await on.query<{ id: string }>(
    `SELECT d.id FROM dualstore.documents d WHERE d.collection = ${collection} AND ${where} ORDER BY d.id`,
    params.values,
  )
  return rows.map((row) => row.id)
}

function identified(bodies: readonly object[]): Items {
  const ids = ['a', 'A', 'b', 'é', '\u{1f600}', '\u{ff5e}', "'; --"]
  return bodies.map((fields, index) => {
    const item = JSON.parse(JSON.stringify(fields)) as { id: string }
    item.id = ids[index] ?? `d${index}`
    return item
  })
}

describe('filterSql', () => {
  test('selects exactly the rows that matches() passes', async () => {
    let hits = 0
    await fc.assert(
      fc.asyncProperty(
        fc.array(body, { minLength: 1, maxLength: 25 }),
        fc.array(filter, { minLength: 10, maxLength: 20 }),
        async (bodies, filters) => {
          const items = identified(bodies)
          await withItems(items, async (on) => {
            for (const input of filters) {
              const parsed = parseFilter(input)
              const expected = items.filter((item) => matches(parsed, item)).map((item) => item.id)
              hits += expected.length
              expect({ input, ids: (await select(on, input)).sort() }).toEqual({
                input,
                ids: expected.sort(),
              })
            }
          })
        },
      ),
      { numRuns: 100 },
    )
    expect(hits).toBeGreaterThan(100)
  }, 60_000)

  test('compares every kind of value with every other as matches() does', async () => {
    const scalars: Json[] = [null, true, false, ...numbers, ...strings]
    const items = [...scalars, ...scalars.map((value) => [value, 'z']), { a: 1 }, [[]]].map((a, index) => ({
      id: `d${index}`,
      a,
    }))
    await withItems(items, async (on) => {
      for (const value of [...numbers, ...strings]) {
        for (const operator of ['$eq', '$gt', '$gte', '$lt', '$lte']) {
          const input = { a: { [operator]: value } }
          const parsed = parseFilter(input)
          const expected = items.filter((item) => matches(parsed, item)).map((item) => item.id)
          expect({ input, ids: await select(on, input) }).toEqual({ input, ids: expected.sort() })
        }
      }
    })
  })

  test('leaves the array arm out where the schema rules an array out, with the same rows', async () => {
    const schema = { properties: { role: { type: 'string' }, n: { type: ['number', 'null'] } } }
    const items = [{ id: '1', role: 'user', n: 1 }, { id: '2', role: 'system', n: null }, { id: '3' }]
    await withItems(items, async (on) => {
      for (const input of [
        { role: 'user' },
        { role: { $gt: 'system' } },
        { n: { $gte: 1 } },
        { n: null },
        { n: { $ne: 1 } },
      ]) {
        const sql = filterSql(parseFilter(input), schema, new Params())
        expect(sql).not.toContain('jsonb_array_elements')
        expect(filterSql(parseFilter(input), {}, new Params())).toContain('jsonb_array_elements')
        const expected = items.filter((item) => matches(parseFilter(input), item)).map((item) => item.id)
        expect(await select(on, input, schema)).toEqual(expected)
      }
    })
  })

  test('nothing of the input is in the statement', async () => {
    const attack = `x' OR 1=1; DROP TABLE dualstore.documents; --`
    const filters = [
      { [attack]: attack },
      { a: { $gt: attack } },
      { a: { $in: [attack, [attack], { [attack]: 1 }] } },
      { id: attack },
      { $or: [{ [attack]: { $exists: true } }] },
      { '{a,b}': '{"x"}', 'a"b\\': null },
    ]
    await withItems([{ id: '1', a: 'kept' }], async (on) => {
      for (const input of filters) {
        const sql = filterSql(parseFilter(input), {}, new Params())
        expect(sql).not.toContain('DROP')
        expect(sql).not.toContain('a"b')
        expect(await select(on, input)).toEqual([])
      }
      expect(() => parseFilter({ a: { "$gt') OR TRUE --": 1 } })).toThrow(/is not known here/)
      expect(await select(on, {})).toEqual(['1'])
    })
  })

  test('the largest filter allowed is one statement that PostgreSQL runs', async () => {
    const values = Array.from({ length: 1000 }, (_, index) => (index % 2 ? index : `${index}`))
    const wide = { $or: Array.from({ length: 199 }, (_, index) => ({ [`f${index}`]: { $in: values } })) }
    const deep = JSON.parse(`${'{"$nor":['.repeat(20)}{"a":1}${']}'.repeat(20)}`)
    await withItems(
      [
        { id: '1', f7: 7 },
        { id: '2', a: 1 },
      ],
      async (on) => {
        expect(await select(on, wide)).toEqual(['1'])
        expect(await select(on, deep)).toEqual(['2'])
      },
    )
  })

  test('a string filter uses the index of its field, whatever the statement binds', async () => {
    const schema = { properties: { session_id: { type: 'string' } } }
    await pool.query(`SELECT dualstore.create_partition('indexed')`)
    await pool.query(
      `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
       SELECT 'indexed', i::text, jsonb_build_object('id', i::text, 'session_id', 's' || i % 500), i, i
       FROM generate_series(1, 5000) i`,
    )
    await pool.query(
      `CREATE INDEX by_session ON dualstore.documents_indexed
       (((item #>> '{session_id}') COLLATE "C"), created_at, id)`,
    )
    await pool.query('ANALYZE dualstore.documents_indexed')
    for (const input of [
      { session_id: 's7' },
      { session_id: { $in: ['s7', 's8'] } },
      { session_id: { $gte: 's499', $lt: 's5' } },
    ]) {
      const params = new Params()
      const collection = params.add('indexed')
      const where = filterSql(parseFilter(input), schema, params)
      const { rows } = await pool.query<{ 'QUERY PLAN': string }>(
        `EXPLAIN SELECT d.item FROM dualstore.documents d WHERE d.collection = ${collection} AND ${where}
         ORDER BY d.created_at DESC, d.id DESC LIMIT 50`,
        params.values,
      )
      expect(rows.map((row) => row['QUERY PLAN']).join('\n')).toMatch(
        /Index (Cond|Scan).*session_id|by_session/,
      )
    }
  })
})

import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Pool, Queryable } from '../../../src/server/db/pool.js'
import {
  decodeCursor,
  encodeCursor,
  fingerprint,
  parseSort,
  type Sort,
} from '../../../src/server/filter/cursor.js'
import type { Json } from '../../../src/server/schemas/item.js'
import { Params } from '../../../src/server/store/params.js'
import { SORTED_CHARACTERS, sortSql } from '../../../src/server/store/sort-sql.js'
import { testDatabase } from '../../support/database.js'
import { json } from '../filter/arbitraries.js'

let db: Awaited<ReturnType<typeof testDatabase>>
let english: Pool

beforeAll(async () => {
  db = await testDatabase()
  english = (await testDatabase({ english: true })).pool
  for (const pool of [db.pool, english]) await pool.query(`SELECT dualstore.create_partition('probe')`)
})

interface Row {
  id: string
  value?: Json
  at: number
}

async function withRows(
  pool: Pool,
  rows: readonly Row[],
  work: (on: Queryable) => Promise<void>,
): Promise<void> {
  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    await client.query(
      `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
       SELECT 'probe', i ->> 'id', i, (i ->> 'at')::bigint, -(i ->> 'at')::bigint
       FROM jsonb_array_elements($1) i`,
      [JSON.stringify(rows)],
    )
    await work(client)
  } finally {
    await client.query('ROLLBACK')
    client.release()
  }
}

async function page(on: Queryable, sort: Sort, limit: number, cursor?: string) {
  const params = new Params()
  const collection = params.add('probe')
  const order = sortSql(sort, params)
  const after = cursor === undefined ? 'TRUE' : order.after(decodeCursor(cursor, sort, 'all'))
  const { rows } = await on.query<{ id: string; key: string[] }>(
    `SELECT d.id, ${order.key} AS key FROM dualstore.documents d
     WHERE d.collection = ${collection} AND ${after} ORDER BY ${order.orderBy} LIMIT ${params.add(limit)}`,
    params.values,
  )
  const last = rows.at(-1)
  return { ids: rows.map((row) => row.id), next: last && encodeCursor(sort, 'all', last.key) }
}

const ids = (rows: readonly Row[], values: readonly (Json | undefined)[]) =>
  values.map((value) => rows.find((row) => JSON.stringify(row.value) === JSON.stringify(value))?.id)

describe('sortSql', () => {
  test('orders mixed types the same in every database, descending as the reverse', async () => {
    const values: (Json | undefined)[] = [
      ...[undefined, false, true, -1e300, -1, 0, 5e-324, 1.5, 9, 10],
      ...[
        '',
        '10',
        '9',
        'A',
        'B',
        'a',
        'b',
        'é',
        '\u{ff5e}',
        '\u{1f600}',
        ['B'],
        ['a'],
        [],
        { B: 1 },
        { a: 1 },
      ],
    ]
    const rows = values.map((value, index) => ({
      id: `d${(index * 7) % values.length}`,
      at: 0,
      ...(value !== undefined && { value }),
    }))
    for (const pool of [db.pool, english]) {
      await withRows(pool, rows, async (on) => {
        expect((await page(on, parseSort('value', 'asc'), 100)).ids).toEqual(ids(rows, values))
        expect((await page(on, parseSort('value', 'desc'), 100)).ids).toEqual(ids(rows, values).reverse())
      })
    }
  })

  test('missing and null are one, and ties go by id', async () => {
    const rows = [
      { id: 'b', at: 0 },
      { id: 'B', at: 0, value: null },
      { id: 'a', at: 0 },
      { id: 'c', at: 0, value: 0 },
    ]
    await withRows(english, rows, async (on) => {
      expect((await page(on, parseSort('value', 'asc'), 100)).ids).toEqual(['B', 'a', 'b', 'c'])
    })
  })

  test('created_at, updated_at and id order by their columns', async () => {
    const rows = [
      { id: 'b', at: 10 },
      { id: 'B', at: 9 },
      { id: 'a', at: 10 },
    ]
    await withRows(english, rows, async (on) => {
      expect((await page(on, parseSort('created_at', 'desc'), 100)).ids).toEqual(['b', 'a', 'B'])
      expect((await page(on, parseSort('updated_at', 'desc'), 100)).ids).toEqual(['B', 'b', 'a'])
      expect((await page(on, parseSort('id', 'asc'), 100)).ids).toEqual(['B', 'a', 'b'])
    })
  })

  test('paging gives the whole order once, for every page size', async () => {
    const row = fc.tuple(fc.option(json, { nil: undefined }), fc.integer({ min: -2, max: 2 }))
    const field = fc.constantFrom('value', 'value.a', 'value.0', 'created_at', 'updated_at', 'id')
    await fc.assert(
      fc.asyncProperty(
        fc.array(row, { minLength: 1, maxLength: 18 }),
        field,
        fc.constantFrom('asc' as const, 'desc' as const),
        async (values, name, order) => {
          const rows = values.map(([value, at], index) => ({
            id: `${index}`,
            at,
            ...(value !== undefined && { value }),
          }))
          const sort = parseSort(name, order)
          await withRows(english, rows, async (on) => {
            const whole = (await page(on, sort, rows.length)).ids
            expect([...whole].sort()).toEqual(rows.map(({ id }) => id).sort())
            for (let size = 1; size <= rows.length; size++) {
              const seen: string[] = []
              let { ids: found, next } = await page(on, sort, size)
              while (next !== undefined) {
                seen.push(...found)
                ;({ ids: found, next } = await page(on, sort, size, next))
              }
              expect(seen).toEqual(whole)
            }
          })
        },
      ),
      { numRuns: 40 },
    )
  }, 60_000)

  test('a cursor stays short however long the text it stands on', async () => {
    const rows = ['c', 'a', 'b'].map((id) => ({ id, at: 0, value: '\u{1}\u{1f600}'.repeat(100_000) }))
    await withRows(db.pool, rows, async (on) => {
      const sort = parseSort('value', 'asc')
      const first = await page(on, sort, 1)
      expect(first.next?.length).toBeLessThan(SORTED_CHARACTERS * 9)
      expect((await page(on, sort, 5, first.next)).ids).toEqual(['b', 'c'])
    })
  })

  test('a cursor that carries SQL or an impossible number never reaches PostgreSQL', async () => {
    const sort = parseSort('value', 'asc')
    const from = fingerprint('all')
    for (const key of [
      ['2', `0); DROP TABLE x; --`, '', 'a'],
      ['2', '1e999999', '', 'a'],
      ['2', '9'.repeat(200_000), '', 'a'],
    ]) {
      expect(() => decodeCursor(encodeCursor(sort, from, key), sort, from)).toThrow(/query.cursor/)
    }
    const params = new Params()
    expect(sortSql(parseSort(`a' DESC; --`, 'asc'), params).orderBy).not.toContain('--')
    expect(params.values).toEqual([[`a' DESC; --`]])
  })
})

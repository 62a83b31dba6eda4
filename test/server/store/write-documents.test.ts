import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { codeOf } from '../../../src/server/db/sqlstate.js'
import { testDatabase } from '../../support/database.js'

interface Write {
  mode: 'create' | 'put' | 'load' | 'replace' | 'delete'
  id: string
  collection?: string
  item?: Record<string, unknown>
  ifVersion?: number
  /** Epoch milliseconds, for the columns and the item alike. */
  at?: number
  key?: string
  fingerprint?: string
}

interface Row {
  collection: string
  id: string
  outcome: string
  version: number
  item: string | null
  seq: number | null
}

const { pool } = await testDatabase({ poolSize: 12 })

beforeAll(async () => {
  await pool.query(`SELECT dualstore.create_partition(name) FROM unnest('{notes,tasks}'::text[]) name`)
})

beforeEach(async () => {
  await pool.query('DELETE FROM dualstore.documents; DELETE FROM dualstore.idempotency')
})

const itemOf = ({ id, at = 1000, item = {} }: Write) => ({ ...item, id, created_at: at, updated_at: at })

/** Calls the function once; its rows without the last, and the head position the last one carries. */
async function write(...writes: readonly Write[]): Promise<{ rows: Row[]; head: number | null }> {
  const result = await pool.query<Row>(
    'SELECT * FROM dualstore.write_documents($1,$2,$3,$4,$5,$6,$7,$8,$9)',
    [
      writes.map((one) => one.mode),
      writes.map((one) => one.collection ?? 'notes'),
      writes.map((one) => one.id),
      JSON.stringify(writes.map(itemOf)),
      writes.map((one) => one.ifVersion ?? null),
      writes.map((one) => one.at ?? 1000),
      writes.map((one) => one.at ?? 1000),
      writes.map((one) => one.key ?? null),
      writes.map((one) => (one.key === undefined ? null : (one.fingerprint ?? 'same'))),
    ],
  )
  const last = result.rows.pop()
  expect(last).toMatchObject({ outcome: 'head', collection: null, id: null })
  return { rows: result.rows, head: last!.seq }
}

const outcomes = (rows: readonly Row[]) => rows.map((row) => `${row.id} ${row.outcome} ${row.version}`).sort()
const stored = async (id: string, collection = 'notes') =>
  (
    await pool.query(
      'SELECT version, item, created_at, updated_at FROM dualstore.documents WHERE collection = $1 AND id = $2',
      [collection, id],
    )
  ).rows[0]
const logged = async () =>
  (
    await pool.query<{ seq: number; op: string; id: string }>(
      'SELECT seq, op, id FROM dualstore.changes ORDER BY seq',
    )
  ).rows

describe('create', () => {
  test('inserts what is new and leaves a taken id alone', async () => {
    expect(outcomes((await write({ mode: 'create', id: 'a', item: { n: 1 } })).rows)).toEqual(['a created 1'])
    const again = await write({ mode: 'create', id: 'a', item: { n: 2 } }, { mode: 'create', id: 'b' })
    expect(outcomes(again.rows)).toEqual(['b created 1'])
    expect(await stored('a')).toMatchObject({ version: 1, item: { n: 1 } })
  })

  test('that finds every id taken writes nothing and has no head', async () => {
    await write({ mode: 'create', id: 'a' })
    const before = await logged()
    expect(await write({ mode: 'create', id: 'a' })).toEqual({ rows: [], head: null })
    expect(await logged()).toEqual(before)
  })
})

describe('put', () => {
  test('inserts, or replaces and keeps created_at', async () => {
    expect(outcomes((await write({ mode: 'put', id: 'a', item: { n: 1 }, at: 1000 })).rows)).toEqual([
      'a created 1',
    ])
    const { rows } = await write({ mode: 'put', id: 'a', item: { m: 2 }, at: 2000 }, { mode: 'put', id: 'b' })
    expect(outcomes(rows)).toEqual(['a replaced 2', 'b created 1'])
    const item = { id: 'a', m: 2, created_at: 1000, updated_at: 2000 }
    expect(await stored('a')).toEqual({ version: 2, created_at: 1000, updated_at: 2000, item })
    expect(JSON.parse(rows.find((row) => row.id === 'a')!.item!)).toEqual(item)
  })
})

describe('load', () => {
  test('inserts, or replaces together with created_at', async () => {
    await write({ mode: 'load', id: 'a', item: { n: 1 }, at: 5000 })
    const { rows } = await write(
      { mode: 'load', id: 'a', item: { m: 2 }, at: 2000 },
      { mode: 'load', id: 'b' },
    )
    expect(outcomes(rows)).toEqual(['a replaced 2', 'b created 1'])
    const item = { id: 'a', m: 2, created_at: 2000, updated_at: 2000 }
    expect(await stored('a')).toEqual({ version: 2, created_at: 2000, updated_at: 2000, item })
  })
})

describe('replace', () => {
  test('replaces what exists, keeps created_at, and leaves a missing document alone', async () => {
    await write({ mode: 'create', id: 'a', item: { n: 1 }, at: 1000 })
    const { rows } = await write(
      { mode: 'replace', id: 'a', item: { m: 2 }, at: 3000 },
      { mode: 'replace', id: 'b' },
    )
    expect(outcomes(rows)).toEqual(['a replaced 2'])
    expect((await stored('a')).item).toEqual({ id: 'a', m: 2, created_at: 1000, updated_at: 3000 })
    expect(await stored('b')).toBeUndefined()
  })

  test('happens only at the version asked for', async () => {
    await write({ mode: 'create', id: 'a' }, { mode: 'create', id: 'b' })
    const { rows } = await write(
      { mode: 'replace', id: 'a', ifVersion: 1 },
      { mode: 'replace', id: 'b', ifVersion: 2, item: { wrong: true } },
    )
    expect(outcomes(rows)).toEqual(['a replaced 2'])
    expect((await stored('b')).item).not.toHaveProperty('wrong')
  })

  test('of one version by ten callers at once succeeds for one of them', async () => {
    await write({ mode: 'create', id: 'a' })
    for (let version = 1; version <= 10; version++) {
      const calls = Array.from({ length: 10 }, (_, n) =>
        write({ mode: 'replace', id: 'a', ifVersion: version, item: { n } }),
      )
      const results = await Promise.all(calls)
      expect(results.flatMap(({ rows }) => outcomes(rows))).toEqual([`a replaced ${version + 1}`])
    }
  })

  test('without a version by ten callers at once counts every one', async () => {
    await write({ mode: 'create', id: 'a' })
    const calls = Array.from({ length: 10 }, (_, n) => write({ mode: 'replace', id: 'a', item: { n } }))
    const versions = (await Promise.all(calls)).flatMap(({ rows }) => rows.map((row) => row.version))
    expect(versions.sort((a, b) => a - b)).toEqual([2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
  })
})

describe('delete', () => {
  test('deletes what exists at the version asked for, and leaves the rest alone', async () => {
    await write(...['a', 'b', 'c'].map((id): Write => ({ mode: 'create', id })))
    const { rows } = await write(
      { mode: 'delete', id: 'a' },
      { mode: 'delete', id: 'b', ifVersion: 1 },
      { mode: 'delete', id: 'c', ifVersion: 9 },
      { mode: 'delete', id: 'd' },
    )
    expect(outcomes(rows)).toEqual(['a deleted 1', 'b deleted 1'])
    expect(await stored('c')).toBeDefined()
  })

  test('of one document by ten callers at once happens once', async () => {
    await write({ mode: 'create', id: 'a' })
    const results = await Promise.all(Array.from({ length: 10 }, () => write({ mode: 'delete', id: 'a' })))
    expect(results.flatMap(({ rows }) => outcomes(rows))).toEqual(['a deleted 1'])
    expect(results.filter(({ head }) => head !== null)).toHaveLength(1)
  })
})

describe('a call of every mode', () => {
  test('gives each document its own outcome, and its head is the last change it made', async () => {
    await write(...['taken', 'put', 'load', 'replace', 'delete'].map((id): Write => ({ mode: 'create', id })))
    const before = (await logged()).length
    const { rows, head } = await write(
      { mode: 'delete', id: 'delete' },
      { mode: 'replace', id: 'replace' },
      { mode: 'load', id: 'load' },
      { mode: 'put', id: 'put' },
      { mode: 'create', id: 'new' },
      { mode: 'create', id: 'taken' },
      { mode: 'replace', id: 'missing' },
    )
    expect(outcomes(rows)).toEqual([
      'delete deleted 1',
      'load replaced 2',
      'new created 1',
      'put replaced 2',
      'replace replaced 2',
    ])
    const changes = (await logged()).slice(before)
    expect(changes).toHaveLength(5)
    expect(head).toBe(changes.at(-1)!.seq)
  })

  test('keeps one id in two collections apart', async () => {
    await write({ mode: 'create', id: 'x', collection: 'tasks', item: { in: 'tasks' } })
    const { rows } = await write(
      { mode: 'create', id: 'x', collection: 'notes', item: { in: 'notes' } },
      { mode: 'replace', id: 'x', collection: 'tasks', item: { in: 'tasks again' } },
    )
    expect(rows.map((row) => `${row.collection} ${row.outcome}`).sort()).toEqual([
      'notes created',
      'tasks replaced',
    ])
    expect((await stored('x', 'tasks')).item.in).toBe('tasks again')
  })

  test('knows its head while eight callers write at once', async () => {
    const calls = Array.from({ length: 40 }, async (_, n) => {
      const ids = Array.from({ length: 1 + (n % 5) }, (__, row) => `call${n}-${row}`)
      const { head } = await write(...ids.map((id): Write => ({ mode: 'create', id })))
      return { ids, head }
    })
    const results = await Promise.all(calls)
    const changes = await logged()
    for (const { ids, head } of results) {
      const own = changes.filter((change) => ids.includes(change.id)).map((change) => change.seq)
      expect(head).toBe(Math.max(...own))
    }
  })
})

describe('idempotency keys', () => {
  test('the same request again is answered as before and creates nothing', async () => {
    await write({ mode: 'create', id: 'a', key: 'k', item: { n: 1 } })
    await write({ mode: 'replace', id: 'a', item: { n: 2 } })
    const { rows, head } = await write({ mode: 'create', id: 'b', key: 'k', item: { n: 1 } })
    expect(outcomes(rows)).toEqual(['b replayed 1'])
    expect(JSON.parse(rows[0]!.item!)).toMatchObject({ id: 'a', n: 1 })
    expect(head).toBeNull()
    expect(await stored('b')).toBeUndefined()
  })

  test('the key with another request is told apart', async () => {
    await write({ mode: 'create', id: 'a', key: 'k' })
    const { rows } = await write({ mode: 'create', id: 'b', key: 'k', fingerprint: 'another' })
    expect(rows).toEqual([expect.objectContaining({ id: 'b', outcome: 'key_reused', item: null })])
    expect(await stored('b')).toBeUndefined()
  })

  test('the same key in another collection is another key', async () => {
    await write({ mode: 'create', id: 'a', key: 'k' })
    expect(outcomes((await write({ mode: 'create', id: 'b', key: 'k', collection: 'tasks' })).rows)).toEqual([
      'b created 1',
    ])
  })

  test('a key whose create did not happen, because its id was taken, may be used again', async () => {
    await write({ mode: 'create', id: 'a', item: { first: true } })
    expect((await write({ mode: 'create', id: 'a', key: 'k' })).rows).toEqual([])
    expect(outcomes((await write({ mode: 'create', id: 'b', key: 'k' })).rows)).toEqual(['b created 1'])
  })

  test('an answered key does not keep the same id from being created in another collection', async () => {
    await write({ mode: 'create', id: 'first', key: 'k' })
    const { rows } = await write(
      { mode: 'create', id: 'x', key: 'k' },
      { mode: 'create', id: 'x', collection: 'tasks' },
    )
    expect(rows.map((row) => `${row.collection} ${row.outcome}`).sort()).toEqual([
      'notes replayed',
      'tasks created',
    ])
  })

  test('rows without a key beside rows with one are written as ever', async () => {
    await write({ mode: 'create', id: 'a', key: 'k' })
    const { rows } = await write(
      { mode: 'create', id: 'b', key: 'k' },
      { mode: 'create', id: 'c', key: 'fresh' },
      { mode: 'create', id: 'd' },
      { mode: 'put', id: 'e' },
    )
    expect(outcomes(rows)).toEqual(['b replayed 1', 'c created 1', 'd created 1', 'e created 1'])
  })

  test('two concurrent calls with one key create one document', async () => {
    for (let round = 0; round < 20; round++) {
      const [one, two] = await Promise.all([
        write({ mode: 'create', id: `a${round}`, key: `k${round}` }),
        write({ mode: 'create', id: `b${round}`, key: `k${round}` }),
      ])
      expect([...one.rows, ...two.rows].map((row) => row.outcome).sort()).toEqual(['created', 'replayed'])
    }
    expect((await pool.query('SELECT FROM dualstore.documents')).rowCount).toBe(20)
  })
})

describe('calls that overlap do not deadlock', () => {
  const ids = Array.from({ length: 20 }, (_, n) => `doc-${String(n).padStart(2, '0')}`)
  const allOf = (mode: Write['mode'], order: readonly string[]) => order.map((id): Write => ({ mode, id }))
  const reversed = [...ids].reverse()

  test.each(['put', 'load', 'replace'] as const)('two calls of mode %s with reversed ids', async (mode) => {
    await write(...allOf('create', ids))
    expect(await deadlocks(100, () => [write(...allOf(mode, ids)), write(...allOf(mode, reversed))])).toBe(0)
  })

  test('two calls that create and delete the same ids in reverse', async () => {
    expect(
      await deadlocks(100, (round) => {
        const mode = round % 2 === 0 ? 'create' : 'delete'
        return [write(...allOf(mode, ids)), write(...allOf(mode, reversed))]
      }),
    ).toBe(0)
  })

  test('a call of several modes beside calls of one mode', async () => {
    await write(...allOf('create', ids))
    expect(
      await deadlocks(100, (round) => [
        write({ mode: 'create', id: `new-${round}` }, ...allOf('replace', ids)),
        write(...allOf('replace', reversed)),
        write(...allOf('put', ids)),
      ]),
    ).toBe(0)
  })

  async function deadlocks(rounds: number, calls: (round: number) => Promise<unknown>[]): Promise<number> {
    let count = 0
    for (let round = 0; round < rounds; round++) {
      for (const result of await Promise.allSettled(calls(round))) {
        if (result.status === 'fulfilled') continue
        if (codeOf(result.reason) !== '40P01') throw result.reason
        count++
      }
    }
    return count
  }
})

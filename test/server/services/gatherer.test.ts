import pg from 'pg'
import { describe, expect, test } from 'vitest'
import { retrying } from '../../../src/server/db/transaction.js'
import { createGatherer, refusedRow } from '../../../src/server/services/gatherer.js'
import { type Write, type WriteResult, writeDocuments } from '../../../src/server/store/documents.js'
import { testDatabase } from '../../support/database.js'
import { until } from '../../support/follower.js'

function writeOf(id: string, given: Partial<Write> & { value?: unknown } = {}): Write {
  const { value = id, ...rest } = given
  return {
    mode: 'put',
    collection: 'notes',
    id,
    text: JSON.stringify({ id, created_at: 't', updated_at: 't', value }),
    ifVersion: null,
    createdAt: 1,
    updatedAt: 1,
    idempotency: null,
    ...rest,
  }
}

const numbered = (count: number) => Array.from({ length: count }, (_, index) => `n${index}`)

/** A statement that the test finishes by hand; remembers what each one held. */
function manualRun() {
  const statements: { ids: string[]; finish(): void; fail(error: unknown): void }[] = []
  let position = 0
  const run = (writes: readonly Write[]) =>
    new Promise<WriteResult>((resolve, reject) => {
      const finish = () =>
        resolve({
          outcomes: writes.map(() => ({ outcome: 'created', version: 1, text: null })),
          position: ++position,
        })
      statements.push({ ids: writes.map(({ id }) => id), finish, fail: reject })
    })
  return { statements, run }
}

describe('sharing statements (I11)', () => {
  test('one write alone gets a statement at once; those that come meanwhile share the next', async () => {
    const { statements, run } = manualRun()
    const gatherer = createGatherer({ run, refuse: refusedRow, lanes: 1 })
    const first = gatherer.write(writeOf('a'))
    await until(() => statements.length === 1)
    const others = numbered(50).map((id) => gatherer.write(writeOf(id)))
    expect(gatherer.waiting).toBe(50)
    statements[0]!.finish()
    expect(await first).toEqual({ outcome: 'created', version: 1, text: null, position: 1 })
    await until(() => statements.length === 2)
    expect(statements[1]!.ids).toEqual(numbered(50))
    statements[1]!.finish()
    await Promise.all(others)
  })

  test('a statement is bounded in rows and in bytes, and a write larger than the bound goes alone', async () => {
    const { statements, run } = manualRun()
    const gatherer = createGatherer({ run, refuse: refusedRow, lanes: 1, maxRows: 3, maxBytes: 1000 })
    const writes = [
      ...['a', 'b', 'c', 'd'].map((id) => writeOf(id)),
      writeOf('large', { value: 'x'.repeat(2000) }),
      writeOf('e'),
    ]
    const done = Promise.all(writes.map((write) => gatherer.write(write)))
    for (let count = 1; count <= 3; count++) {
      await until(() => statements.length === count)
      statements[count - 1]!.finish()
    }
    await done
    expect(statements.map(({ ids }) => ids)).toEqual([['a', 'b', 'c'], ['d', 'e'], ['large']])
  })

  test('writes of one document, or with one Idempotency-Key, never share a statement nor overtake', async () => {
    const { statements, run } = manualRun()
    const gatherer = createGatherer({ run, refuse: refusedRow, lanes: 2 })
    const keyed = (id: string) => writeOf(id, { mode: 'create', idempotency: { key: 'k', fingerprint: 'f' } })
    const done = Promise.all(
      [writeOf('a'), writeOf('a'), keyed('x'), keyed('y'), writeOf('y')].map((write) =>
        gatherer.write(write),
      ),
    )
    await until(() => statements.length === 1)
    expect(statements[0]!.ids).toEqual(['a', 'x'])
    statements[0]!.finish()
    await until(() => statements.length === 2)
    // The second write of y waits behind the first one, which waited for the key.
    expect(statements[1]!.ids).toEqual(['a', 'y'])
    statements[1]!.finish()
    await until(() => statements.length === 3)
    statements[2]!.finish()
    await done
  })

  test('a second statement goes beside the first when it is full, or when the first is slow', async () => {
    const { statements, run } = manualRun()
    const gatherer = createGatherer({ run, refuse: refusedRow, lanes: 2, maxRows: 3, slowMs: 3_600_000 })
    const writes = [gatherer.write(writeOf('a'))]
    await until(() => statements.length === 1)
    writes.push(...['b', 'c'].map((id) => gatherer.write(writeOf(id))))
    await new Promise(setImmediate)
    expect(statements).toHaveLength(1)
    writes.push(...['d', 'e'].map((id) => gatherer.write(writeOf(id))))
    await until(() => statements.length === 2)
    expect(statements[1]?.ids).toEqual(['b', 'c', 'd'])
    for (const index of [0, 1]) statements[index]!.finish()
    await until(() => statements.length === 3)
    statements[2]!.finish()
    await Promise.all(writes)

    const hasty = createGatherer({ run, refuse: refusedRow, lanes: 2, slowMs: 1 })
    const slow = hasty.write(writeOf('a'))
    await until(() => statements.length === 4)
    const other = hasty.write(writeOf('b'))
    await until(() => statements.length === 5)
    statements[4]!.finish()
    await other
    statements[3]!.finish()
    await slow
  })

  test('past its bound the queue refuses at once, and takes writes again when there is room', async () => {
    const { statements, run } = manualRun()
    const gatherer = createGatherer({ run, refuse: refusedRow, lanes: 1, maxWaiting: 2 })
    const first = gatherer.write(writeOf('a'))
    await until(() => statements.length === 1)
    const waiting = [gatherer.write(writeOf('b')), gatherer.write(writeOf('c'))]
    await expect(gatherer.write(writeOf('d'))).rejects.toMatchObject({ code: 'OVERLOADED', retryable: true })
    statements[0]!.finish()
    await first
    await until(() => statements.length === 2)
    const late = gatherer.write(writeOf('d'))
    statements[1]!.finish()
    await Promise.all(waiting)
    await until(() => statements.length === 3)
    statements[2]!.finish()
    await late
  })

  test('drain waits for what runs and what waits, and is immediate when nothing does', async () => {
    const { statements, run } = manualRun()
    const gatherer = createGatherer({ run, refuse: refusedRow, lanes: 1 })
    await gatherer.drain()
    const writes = [gatherer.write(writeOf('a')), gatherer.write(writeOf('a'))]
    let drained = false
    const draining = gatherer.drain().then(() => {
      drained = true
    })
    await until(() => statements.length === 1)
    statements[0]!.finish()
    await until(() => statements.length === 2)
    expect(drained).toBe(false)
    statements[1]!.finish()
    await draining
    await Promise.all(writes)
  })
})

describe('on PostgreSQL', async () => {
  const { pool, url } = await testDatabase()
  await pool.query(`SELECT dualstore.create_partition('notes')`)
  await pool.query(`CREATE INDEX notes_value ON dualstore.documents_notes ((item ->> 'value'))`)
  let statements = 0
  const gatherer = createGatherer({
    run: (writes) => {
      statements++
      return retrying(() => writeDocuments(pool, writes))
    },
    refuse: refusedRow,
  })

  test('a thousand concurrent writes take a few statements', async () => {
    statements = 0
    const written = await Promise.all(numbered(1000).map((id) => gatherer.write(writeOf(id))))
    expect(written.every(({ outcome }) => outcome === 'created')).toBe(true)
    expect(statements).toBeLessThan(10)
  })

  test('200 concurrent writes of one document happen in the order they were asked for', async () => {
    const written = await Promise.all(
      numbered(200).map((value) => gatherer.write(writeOf('same', { value }))),
    )
    expect(written.map((one) => 'version' in one && one.version)).toEqual(numbered(200).map((_, i) => i + 1))
    const { rows } = await pool.query(
      `SELECT item ->> 'value' AS value FROM dualstore.documents WHERE id = 'same'`,
    )
    expect(rows).toEqual([{ value: 'n199' }])
  })

  test('a row that PostgreSQL refuses fails alone, with what its client can do about it', async () => {
    const noise = Array.from({ length: 1200 }, (_, index) => Math.sin(index).toString(36)).join('')
    const bad = (id: string): Write | undefined =>
      ({
        n7: writeOf('n7', { value: noise }),
        n23: writeOf('n23', { collection: 'dropped' }),
        n42: { ...writeOf('n42'), text: '{"id":"n42","value":"\\u0000"}' },
      })[id]
    const results = await Promise.allSettled(
      numbered(100).map((id) => gatherer.write(bad(id) ?? writeOf(id, { value: 'fine' }))),
    )
    const failed = results.flatMap((result, index) =>
      result.status === 'rejected' ? [[index, (result.reason as { code?: string }).code]] : [],
    )
    expect(failed).toEqual([
      [7, 'INVALID_REQUEST'],
      [23, 'COLLECTION_NOT_FOUND'],
      [42, 'INVALID_REQUEST'],
    ])
    const { rows } = await pool.query(
      `SELECT count(*) AS fine FROM dualstore.documents WHERE item ->> 'value' = 'fine'`,
    )
    expect(rows).toEqual([{ fine: 97 }])
  })

  test('of two creates with one Idempotency-Key the second gets the answer of the first', async () => {
    const keyed = (id: string) =>
      gatherer.write(writeOf(id, { mode: 'create', idempotency: { key: 'once', fingerprint: 'f' } }))
    const [one, two] = await Promise.all([keyed('k1'), keyed('k2')])
    expect(one).toMatchObject({ outcome: 'created' })
    expect(two).toMatchObject({ outcome: 'replayed', position: null, text: expect.stringContaining('"k1"') })
  })

  test('connections that break: every acknowledged write is there, every other was told 503', async () => {
    const ids = Array.from({ length: 3000 }, (_, index) => `r${index}`)
    const admin = new pg.Pool({ connectionString: url, max: 1 })
    let broken = 0
    const results = Promise.allSettled(
      ids.map(async (id, index) => {
        // Not all at once, so that some are under way, some wait and some have yet to come.
        await until(() => gatherer.waiting < 500)
        if (index % 600 === 599) {
          const { rowCount } = await admin.query(
            `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()`,
          )
          broken += rowCount ?? 0
        }
        return gatherer.write(writeOf(id, { mode: 'create' }))
      }),
    )
    const { rows } = await results.then(() =>
      pool.query<{ id: string }>(`SELECT id FROM dualstore.documents`),
    )
    await admin.end()
    const stored = new Set(rows.map(({ id }) => id))
    const failures = new Set<string>()
    for (const [index, result] of (await results).entries()) {
      if (result.status === 'fulfilled') expect(stored.has(ids[index]!)).toBe(true)
      else failures.add(result.reason.code)
    }
    expect(broken).toBeGreaterThan(0)
    expect([...failures].filter((code) => code !== 'STORE_UNAVAILABLE')).toEqual([])
    expect(await gatherer.write(writeOf('afterwards'))).toMatchObject({ outcome: 'created' })
  })
})

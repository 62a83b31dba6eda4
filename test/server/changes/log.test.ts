import { setImmediate as turn } from 'node:timers/promises'
import pg from 'pg'
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Queryable } from '../../../src/server/db/pool.js'
import { testDatabase } from '../../support/database.js'

interface Change {
  seq: number
  collection: string
  id: string
  op: string
  version: number
  item: Record<string, unknown>
}

const { pool, url } = await testDatabase({ poolSize: 12 })

beforeAll(async () => {
  await pool.query(`SELECT dualstore.create_partition(name) FROM unnest('{notes,tasks}'::text[]) name`)
})

beforeEach(async () => {
  await pool.query('DELETE FROM dualstore.documents')
})

const COLUMNS = '(collection, id, item, created_at, updated_at)'
const insert = (on: Queryable, ids: readonly string[], collection = 'notes') =>
  on.query(
    `INSERT INTO dualstore.documents ${COLUMNS}
     SELECT $1, id, jsonb_build_object('id', id), 1, 1 FROM unnest($2::text[]) id`,
    [collection, ids],
  )
const head = async () =>
  (await pool.query<{ n: number }>('SELECT last_value AS n FROM dualstore.changes_seq')).rows[0]!.n
const changesAfter = async (position: number): Promise<Change[]> =>
  (
    await pool.query<Change>(
      'SELECT seq, collection, id, op, version, item FROM dualstore.changes WHERE seq > $1 ORDER BY seq',
      [position],
    )
  ).rows
/** What the log tells since `position`, short: "insert notes/a 1". */
const logged = async (position: number) =>
  (await changesAfter(position)).map(
    (change) => `${change.op} ${change.collection}/${change.id} ${change.version}`,
  )

describe('log order is commit order (I1)', () => {
  test('who has read a position never sees a lower one appear, whatever order two transactions write in', async () => {
    const from = await head()
    const [one, two] = await Promise.all([pool.connect(), pool.connect()])
    try {
      await one.query('BEGIN')
      await two.query('BEGIN')
      await insert(one, ['first'])
      const waiting = insert(two, ['second']).then(() => two.query('COMMIT'))
      // The second writer waits at the log: it can commit only behind the first.
      await untilWaiting(1)
      expect(await logged(from)).toEqual([])
      await one.query('COMMIT')
      await waiting
      const seqs = await changesAfter(from)
      expect(seqs.map((change) => change.id)).toEqual(['first', 'second'])
    } finally {
      one.release()
      two.release()
    }
  })

  test('a transaction that rolls back to a savepoint lets others by and leaves no change', async () => {
    const from = await head()
    const one = await pool.connect()
    try {
      await one.query('BEGIN; SAVEPOINT s')
      await insert(one, ['undone'])
      await one.query('ROLLBACK TO s')
      await insert(pool, ['other'])
      expect(await logged(from)).toEqual(['insert notes/other 1'])
      await insert(one, ['kept'])
      await one.query('COMMIT')
      expect(await logged(from)).toEqual(['insert notes/other 1', 'insert notes/kept 1'])
    } finally {
      one.release()
    }
  })

  test('a reader misses nothing of 20,000 changes by 8 concurrent writers, and each document ascends', async () => {
    const from = await head()
    const WRITERS = 8
    const TARGET = 20_000
    let written = 0
    const write = async (writer: number) => {
      const client = await pool.connect()
      try {
        for (let round = 0; written < TARGET; round++) {
          // One row, many rows, and rows that all writers update, in an order that cannot deadlock.
          const size = [1, 40, 150][round % 3]!
          const ids = Array.from({ length: size }, (_, row) => `w${writer}-${round}-${row}`)
          await insert(client, ids, round % 2 === 0 ? 'notes' : 'tasks')
          const { rowCount } = await client.query(
            `INSERT INTO dualstore.documents ${COLUMNS}
             SELECT 'notes', id, jsonb_build_object('id', id), 1, 1 FROM unnest($1::text[]) id ORDER BY id
             ON CONFLICT (collection, id) DO UPDATE SET updated_at = documents.updated_at + 1`,
            [Array.from({ length: 1 + (round % 4) }, (_, row) => `shared-${row}`)],
          )
          written += size + rowCount!
        }
      } finally {
        client.release()
      }
    }
    let writing = true
    const read = async () => {
      const seen: Change[] = []
      let position = from
      for (;;) {
        const last = !writing
        const changes = await changesAfter(position)
        seen.push(...changes)
        position = changes.at(-1)?.seq ?? position
        if (last && changes.length === 0) return seen
        await turn()
      }
    }
    const reader = read()
    await Promise.all(Array.from({ length: WRITERS }, (_, writer) => write(writer))).finally(() => {
      writing = false
    })
    const seen = await reader
    const stored = await pool.query<{ n: number }>(
      'SELECT count(*) AS n FROM dualstore.changes WHERE seq > $1',
      [from],
    )
    expect(seen.length).toBe(written)
    expect(stored.rows[0]!.n).toBe(written)
    expect(written).toBeGreaterThanOrEqual(TARGET)
    const versions = new Map<string, number>()
    for (const change of seen) {
      const key = `${change.collection}/${change.id}`
      expect(change.version, key).toBe((versions.get(key) ?? 0) + 1)
      versions.set(key, change.version)
    }
  })
})

describe('nothing bypasses the log (I2)', () => {
  test('raw INSERT, UPDATE and DELETE on the parent', async () => {
    const from = await head()
    await pool.query(
      `INSERT INTO dualstore.documents ${COLUMNS} VALUES ('notes', 'a', '{"id":"a"}', 1, 1), ('tasks', 'b', '{"id":"b"}', 1, 1)`,
    )
    await pool.query(`UPDATE dualstore.documents SET item = item || '{"x":1}' WHERE collection = 'notes'`)
    await pool.query('DELETE FROM dualstore.documents')
    const changes = await changesAfter(from)
    expect(
      changes.map((change) => `${change.op} ${change.collection}/${change.id} ${change.version}`),
    ).toEqual([
      'insert notes/a 1',
      'insert tasks/b 1',
      'update notes/a 2',
      'delete notes/a 2',
      'delete tasks/b 1',
    ])
    expect(changes.map((change) => change.item)).toEqual([
      { id: 'a' },
      { id: 'b' },
      { id: 'a', x: 1 },
      { id: 'a', x: 1 },
      { id: 'b' },
    ])
  })

  test('raw INSERT, UPDATE and DELETE directly on a partition', async () => {
    const from = await head()
    await pool.query(
      `INSERT INTO dualstore.documents_notes ${COLUMNS} VALUES ('notes', 'a', '{"id":"a"}', 1, 1)`,
    )
    await pool.query('UPDATE dualstore.documents_notes SET updated_at = 2')
    await pool.query('DELETE FROM dualstore.documents_notes')
    expect(await logged(from)).toEqual(['insert notes/a 1', 'update notes/a 2', 'delete notes/a 2'])
  })

  test.each(['documents', 'documents_notes'])('COPY into %s', async (table) => {
    const from = await head()
    await copy(
      `COPY dualstore.${table} ${COLUMNS} FROM STDIN`,
      'notes\ta\t{"id":"a"}\t1\t1\nnotes\tb\t{"id":"b"}\t1\t1\n',
    )
    expect(await logged(from)).toEqual(['insert notes/a 1', 'insert notes/b 1'])
  })

  test('ON CONFLICT DO UPDATE tells inserts from updates, DO NOTHING tells neither', async () => {
    await insert(pool, ['a'])
    const from = await head()
    const upsert = `INSERT INTO dualstore.documents ${COLUMNS} VALUES ('notes', 'a', '{"id":"a"}', 1, 1), ('notes', 'b', '{"id":"b"}', 1, 1) ON CONFLICT (collection, id)`
    await pool.query(`${upsert} DO UPDATE SET updated_at = 9`)
    expect((await logged(from)).sort()).toEqual(['insert notes/b 1', 'update notes/a 2'])
    const after = await head()
    await pool.query(`${upsert} DO NOTHING`)
    expect(await logged(after)).toEqual([])
  })

  test('MERGE with all three actions', async () => {
    await insert(pool, ['change', 'drop'])
    const from = await head()
    await pool.query(`
      MERGE INTO dualstore.documents d
      USING (VALUES ('change'), ('drop'), ('new')) s(id) ON d.collection = 'notes' AND d.id = s.id
      WHEN MATCHED AND s.id = 'drop' THEN DELETE
      WHEN MATCHED THEN UPDATE SET updated_at = 2
      WHEN NOT MATCHED THEN INSERT ${COLUMNS} VALUES ('notes', s.id, jsonb_build_object('id', s.id), 1, 1)`)
    expect((await logged(from)).sort()).toEqual([
      'delete notes/drop 1',
      'insert notes/new 1',
      'update notes/change 2',
    ])
  })

  test('a CTE with two writes of one kind and one of another', async () => {
    await insert(pool, ['old'])
    const from = await head()
    await pool.query(`
      WITH more AS (INSERT INTO dualstore.documents ${COLUMNS} VALUES ('notes', 'a', '{"id":"a"}', 1, 1) RETURNING id),
        gone AS (DELETE FROM dualstore.documents WHERE id = 'old' RETURNING id)
      INSERT INTO dualstore.documents ${COLUMNS} VALUES ('tasks', 'b', '{"id":"b"}', 1, 1)`)
    expect((await logged(from)).sort()).toEqual([
      'delete notes/old 1',
      'insert notes/a 1',
      'insert tasks/b 1',
    ])
  })

  test('a rolled back write leaves no change', async () => {
    const from = await head()
    const client = await pool.connect()
    await client.query('BEGIN')
    await insert(client, ['a'])
    await client.query('ROLLBACK')
    client.release()
    expect(await changesAfter(from)).toEqual([])
  })

  test('a statement that touches no row leaves no change and does not wait for the log', async () => {
    const holder = await pool.connect()
    await holder.query('BEGIN')
    await insert(holder, ['a'])
    const from = await head()
    await pool.query(`UPDATE dualstore.documents SET updated_at = 3 WHERE id = 'nobody'`)
    expect(await head()).toBe(from)
    await holder.query('ROLLBACK')
    holder.release()
  })

  test.each(['documents', 'documents_notes'])('TRUNCATE of %s is refused', async (table) => {
    await insert(pool, ['a'])
    await expect(pool.query(`TRUNCATE dualstore.${table}`)).rejects.toMatchObject({ code: '23001' })
    expect((await pool.query('SELECT FROM dualstore.documents')).rowCount).toBe(1)
  })
})

describe('a document keeps its identity and counts its versions', () => {
  test.each([`id = 'b', item = '{"id":"b"}'`, `collection = 'tasks'`])(
    'changing it with SET %s is refused',
    async (assignment) => {
      await insert(pool, ['a'])
      const from = await head()
      for (const table of ['documents', 'documents_notes']) {
        await expect(pool.query(`UPDATE dualstore.${table} SET ${assignment}`)).rejects.toMatchObject({
          code: '23001',
        })
      }
      expect(await logged(from)).toEqual([])
    },
  )

  test('an item that does not carry the id of its row is refused', async () => {
    const wrong = `INSERT INTO dualstore.documents ${COLUMNS} VALUES ('notes', 'a', $1, 1, 1)`
    await expect(pool.query(wrong, ['{"id":"b"}'])).rejects.toMatchObject({ code: '23514' })
    await expect(pool.query(wrong, ['{}'])).rejects.toMatchObject({ code: '23514' })
  })

  test('a version given by hand does not stand: every update counts one', async () => {
    await insert(pool, ['a'])
    await pool.query('UPDATE dualstore.documents SET version = 77')
    await pool.query('UPDATE dualstore.documents SET version = version, updated_at = 5')
    expect((await pool.query('SELECT version FROM dualstore.documents')).rows).toEqual([{ version: 3 }])
  })
})

describe('partitions', () => {
  test('names that PostgreSQL would give to indexes are collections like any other', async () => {
    const names = ['pkey', 'by_creation', 'notes_pkey', 'notes_created_at_id_idx', 'a', 'a_pkey', 'a_pkey1']
    for (const name of names) await pool.query('SELECT dualstore.create_partition($1)', [name])
    const from = await head()
    for (const name of names) await insert(pool, ['x'], name)
    expect(await logged(from)).toEqual(names.map((name) => `insert ${name}/x 1`))
    await pool.query(`DELETE FROM dualstore.documents`)
    for (const name of names) await pool.query('SELECT dualstore.drop_partition($1)', [name])
    await expect(insert(pool, ['x'], 'a')).rejects.toMatchObject({ code: '23514' })
  })

  test('creating one twice is the same as once, and one with documents is not dropped', async () => {
    await pool.query(`SELECT dualstore.create_partition('twice')`)
    await pool.query(`SELECT dualstore.create_partition('twice')`)
    await insert(pool, ['a'], 'twice')
    await expect(pool.query(`SELECT dualstore.drop_partition('twice')`)).rejects.toMatchObject({
      code: '23001',
    })
    await pool.query(`DELETE FROM dualstore.documents WHERE collection = 'twice'`)
    await pool.query(`SELECT dualstore.drop_partition('twice')`)
    await pool.query(`SELECT dualstore.drop_partition('twice')`)
  })
})

/** Resolves when `count` sessions of this database wait for an advisory lock. */
async function untilWaiting(count: number): Promise<void> {
  for (;;) {
    const { rowCount } = await pool.query(
      `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'`,
    )
    if (rowCount === count) return
  }
}

/** COPY through the wire protocol, as psql's \copy does it; pg sends the data when the server asks for it. */
async function copy(statement: string, data: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await new Promise<void>((done, fail) => {
      const copying = {
        submit: (on: CopyConnection) => on.query(statement),
        handleCopyInResponse: (on: CopyConnection) => {
          on.sendCopyFromChunk(Buffer.from(data))
          on.endCopyFrom()
        },
        handleCommandComplete: () => {},
        handleError: fail,
        handleReadyForQuery: () => done(),
      }
      client.query(copying as unknown as pg.Submittable)
    })
  } finally {
    await client.end()
  }
}

interface CopyConnection {
  query(text: string): void
  sendCopyFromChunk(chunk: Buffer): void
  endCopyFrom(): void
}

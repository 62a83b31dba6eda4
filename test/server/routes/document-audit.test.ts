import type { FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Pool } from '../../../src/server/db/pool.js'
import { withConnection } from '../../../src/server/db/pool.js'
import { testDatabase } from '../../support/database.js'
import { type Answer, bodies, call, expectError, withQuery } from '../../support/http.js'
import { as, withPrincipals } from '../../support/principals.js'
import { testServer } from '../../support/server.js'

const AUDIT = '/api/v1/audit/documents'
const TASKS = '/api/v1/agent_tasks'
const body = bodies.agent_tasks ?? {}
const NDJSON = { 'content-type': 'application/x-ndjson' }

let app: FastifyInstance
let pool: Pool
beforeAll(async () => {
  const database = await testDatabase()
  pool = database.pool
  app = await testServer('embedded', { databaseUrl: database.url }, withPrincipals)
})

const key = (id: string) => as({ id: `key:${id}`, keyId: id })
const audit = (query: Record<string, string | number>, headers = {}) =>
  call(app, 'GET', withQuery(AUDIT, query), { headers })
/** `op version author` of a document's changes, the oldest first. */
const history = async (id: string) =>
  (await audit({ id })).json.data
    .map(({ op, version, author }: Record<string, unknown>) => `${op} ${version} ${author}`)
    .reverse()
const ids = (answer: Answer) => answer.json.data.map(({ id }: { id: string }) => id)

describe('the change log knows who', () => {
  test('created, replaced, changed and deleted a document, and from where', async () => {
    await call(app, 'POST', TASKS, { headers: key('a'), body: { ...body, id: 'one' } })
    await call(app, 'PUT', `${TASKS}/one`, { headers: key('b'), body })
    await call(app, 'PATCH', `${TASKS}/one`, { headers: key('c'), body: { status: 'failed' } })
    await call(app, 'DELETE', `${TASKS}/one`, { headers: as({ id: 'token:issuer:subject' }) })
    await call(app, 'PUT', `${TASKS}/one`, { body })
    expect(await history('one')).toEqual([
      'insert 1 key:a',
      'update 2 key:b',
      'update 3 key:c',
      'delete 3 token:issuer:subject',
      'insert 1 everyone',
    ])
    const [last] = (await audit({ id: 'one' })).json.data
    expect(last).toEqual({
      at: expect.stringMatching(/^\d{4}-.*Z$/),
      author: 'everyone',
      address: '127.0.0.1',
      collection: 'agent_tasks',
      id: 'one',
      op: 'insert',
      version: 1,
      position: expect.stringMatching(/^[0-9a-f]{8}-\d+$/),
    })
  })

  test('wrote what shared one statement with writes of others', async () => {
    const write = (n: number) => call(app, 'PUT', `${TASKS}/shared${n}`, { headers: key(`k${n % 7}`), body })
    const writes = Array.from({ length: 60 }, (_, n) => n)
    await Promise.all(writes.map(write))
    await Promise.all(writes.map(write))
    const { rows } = await pool.query<{ statements: number }>(
      `SELECT count(DISTINCT xmin::text)::int AS statements FROM dualstore.changes WHERE id LIKE 'shared%'`,
    )
    // They did share: each alone would have made 120.
    expect(rows[0]?.statements).toBeLessThan(100)
    for (const n of writes) {
      expect(await history(`shared${n}`)).toEqual([`insert 1 key:k${n % 7}`, `update 2 key:k${n % 7}`])
    }
  })

  test('imported, and ran a batch', async () => {
    const lines = ['i1', 'i2'].map((id) => JSON.stringify({ ...body, id })).join('\n')
    await call(app, 'POST', `${TASKS}/import`, { headers: { ...key('i'), ...NDJSON }, body: lines })
    const operations = [
      { op: 'create', item: { ...body, id: 'i3' } },
      { op: 'patch', id: 'i1', patch: { status: 'failed' } },
      { op: 'delete', id: 'i2' },
    ]
    await call(app, 'POST', `${TASKS}/batch`, { headers: key('j'), body: { operations } })
    expect(await history('i1')).toEqual(['insert 1 key:i', 'update 2 key:j'])
    expect(await history('i2')).toEqual(['insert 1 key:i', 'delete 1 key:j'])
    expect(await history('i3')).toEqual(['insert 1 key:j'])
  })

  test('wrote as a key with rows', async () => {
    const headers = as({ id: 'key:r', rows: { session_id: body.session_id } })
    await call(app, 'PUT', `${TASKS}/rows`, { headers, body })
    await call(app, 'PUT', `${TASKS}/rows`, { headers, body })
    await call(app, 'DELETE', `${TASKS}/rows`, { headers })
    expect(await history('rows')).toEqual(['insert 1 key:r', 'update 2 key:r', 'delete 2 key:r'])
  })

  test('and that nobody it knows wrote through psql, in the same session and transaction too', async () => {
    await call(app, 'PUT', `${TASKS}/sql`, { headers: key('a'), body })
    await withConnection(pool, async ({ client }) => {
      const item = JSON.stringify([{ id: 'sql2' }])
      await client.query('BEGIN')
      await client.query(
        `SELECT dualstore.write_documents('{put}', '{agent_tasks}', '{sql2}', $1, '{null}', '{1}', '{1}', '{null}',
           '{null}', NULL, '{"author": "key:x", "address": "192.0.2.1"}')`,
        [item],
      )
      await client.query(`UPDATE dualstore.documents SET updated_at = 2 WHERE id IN ('sql', 'sql2')`)
      await client.query('COMMIT')
      await client.query(`DELETE FROM dualstore.documents WHERE id = 'sql2'`)
    })
    expect(await history('sql')).toEqual(['insert 1 key:a', 'update 2 null'])
    expect(await history('sql2')).toEqual(['insert 1 key:x', 'update 2 null', 'delete 2 null'])
  })

  test('for ids of any kind beside those of others', async () => {
    const odd = ['__proto__', 'constructor', 'a"b', 'a\\b', "a'b", '{}', '0', 'each', '漢😀']
    await Promise.all(
      odd.map((id, n) => call(app, 'POST', TASKS, { headers: key(`o${n}`), body: { ...body, id } })),
    )
    for (const [n, id] of odd.entries()) expect(await history(id)).toEqual([`insert 1 key:o${n}`])
  })
})

describe('asking', () => {
  test('by key, author, collection, time and document', async () => {
    await call(app, 'PUT', `${TASKS}/q1`, { headers: key('q'), body })
    await call(app, 'PUT', '/api/v1/session_messages/q2', {
      headers: key('q'),
      body: bodies.session_messages,
    })
    expect(ids(await audit({ key: 'q' }))).toEqual(['q2', 'q1'])
    expect(ids(await audit({ author: 'key:q' }))).toEqual(['q2', 'q1'])
    expect(ids(await audit({ key: 'q', collection: 'agent_tasks' }))).toEqual(['q1'])
    expect(ids(await audit({ key: 'q', since: new Date(Date.now() + 60_000).toISOString() }))).toEqual([])
    expect(ids(await audit({ key: 'q', since: new Date(Date.now() - 60_000).toISOString() }))).toEqual([
      'q2',
      'q1',
    ])
    expect(ids(await audit({ key: 'nobody' }))).toEqual([])
  })

  test('in pages, each change once', async () => {
    const all = ids(await audit({ limit: 1000 }))
    const found: string[] = []
    for (let cursor: string | null = ''; cursor !== null; ) {
      const { json } = await audit({ limit: 7, ...(cursor !== '' && { cursor }) })
      found.push(...json.data.map(({ id }: { id: string }) => id))
      cursor = json.pagination.next_cursor
    }
    expect(found).toEqual(all)
  })

  test('goes on behind a page in which nothing matched', async () => {
    await call(app, 'PUT', `${TASKS}/deep`, { headers: key('deep'), body })
    await pool.query(
      `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
       SELECT 'agent_tasks', 'f' || n, jsonb_build_object('id', 'f' || n), 1, 1 FROM generate_series(1, 50000) n`,
    )
    const first = await audit({ key: 'deep' })
    expect([first.json.data, first.json.pagination.next_cursor]).toEqual([[], expect.any(String)])
    const second = await audit({ key: 'deep', cursor: first.json.pagination.next_cursor })
    expect([ids(second), second.json.pagination.next_cursor]).toEqual([['deep'], null])
    // Nothing older can match.
    const since = new Date(Date.now() + 60_000).toISOString()
    expect((await audit({ since })).json).toMatchObject({ data: [], pagination: { next_cursor: null } })
  })

  test.each([
    [{ since: 'yesterday' }, 'query.since'],
    [{ cursor: 'x' }, 'query.cursor'],
    [{ key: 'a', author: 'b' }, 'query.author'],
    [{ id: 'a\0' }, 'query.id'],
    [{ author: 'a\0' }, 'query.author'],
    [{ limit: 0 }, 'query.limit'],
  ] as [Record<string, string | number>, string][])('%j is refused', async (query, field) => {
    const answer = await audit(query)
    expectError(answer, 400)
    expect(answer.json.details[0].field).toBe(field)
  })

  test('is for admins who may read all that is told', async () => {
    const asked = async (rights: Parameters<typeof as>[0], query = {}) =>
      (await audit(query, as(rights))).status
    expect(await asked({ role: 'writer' })).toBe(403)
    expect(await asked({ rows: { session_id: 'mine' } })).toBe(403)
    expect(await asked({ read: ['agent_*'] })).toBe(403)
    expect(await asked({ read: ['agent_*'] }, { collection: 'session_messages' })).toBe(403)
    expect(await asked({ read: ['agent_*'] }, { collection: 'agent_tasks' })).toBe(200)
    expect(await asked({})).toBe(200)
  })
})

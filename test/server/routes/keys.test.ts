import type { FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import { formatKey, newSecret, parseKey } from '../../../src/server/services/key-format.js'
import { type TestDatabase, testDatabase } from '../../support/database.js'
import { until } from '../../support/follower.js'
import { bodies, call, expectError } from '../../support/http.js'
import { bearer, callAs, type MadeKey, makeKey, withAuth } from '../../support/keys.js'
import { testServer } from '../../support/server.js'

const KEYS = '/api/v1/keys'
const TASKS = '/api/v1/agent_tasks'

let database: TestDatabase
let app: FastifyInstance
let second: FastifyInstance
let admin: MadeKey

beforeAll(async () => {
  database = await testDatabase()
  const options = { databaseUrl: database.url, dualWriteEnabled: false }
  // On a loopback address without authentication anybody may make the first key.
  const open = await testServer('embedded', options)
  const made = await call(open, 'POST', KEYS, { body: { name: 'first', role: 'admin' } })
  expect(made.status, made.text).toBe(201)
  admin = made.json.data
  app = await testServer('embedded', { ...options, ...withAuth })
  second = await testServer('embedded', { ...options, ...withAuth })
})

const make = (input: object) => makeKey(app, admin.key, input)
const status = async (key: string, on = app) => (await callAs(on, key, 'GET', TASKS)).status
const show = async (id: string) => (await callAs(app, admin.key, 'GET', `${KEYS}/${id}`)).json.data
const audit = async (query = '') => {
  const answer = await callAs(app, admin.key, 'GET', `/api/v1/audit?limit=1000${query}`)
  expect(answer.status, answer.text).toBe(200)
  return answer.json.data as Record<string, unknown>[]
}

describe('a key', () => {
  test('is told once, with everything decided', async () => {
    const made = await callAs(app, admin.key, 'POST', KEYS, { body: { name: 'plain', role: 'writer' } })
    expect(made.status).toBe(201)
    expect(made.headers['cache-control']).toBe('no-store')
    const { key, ...rest } = made.json.data
    expect(parseKey(key)?.id).toBe(rest.id)
    expect(rest).toEqual({
      id: expect.stringMatching(/^[0-9A-Za-z]{12}$/),
      name: 'plain',
      role: 'writer',
      scopes: { read: ['*'], write: ['*'] },
      rows: null,
      status: 'active',
      created_at: expect.any(String),
      created_by: `key:${admin.id}`,
      expires_at: null,
      last_used_at: null,
      revoked_at: null,
      previous_secret_until: null,
    })
    expect(await show(rest.id)).toEqual(rest)
    const listed = await callAs(app, admin.key, 'GET', KEYS)
    expect(listed.json.data).toContainEqual(rest)
    expect(listed.text).not.toContain(parseKey(key)?.secret)
  })

  test('keeps scopes, rows and expiry as they were given', async () => {
    const rows = { session_id: { $in: ['s1', 's2'] }, 'metadata.team': 'a' }
    const expires_at = new Date(Date.now() + 60_000).toISOString()
    const scopes = { read: ['agent_*', 'notes'], write: ['notes'] }
    const { id } = await make({ role: 'writer', scopes, rows, expires_at })
    expect(await show(id)).toMatchObject({ scopes, rows, expires_at })
  })

  test('a reader writes nothing, also by default', async () => {
    const { id } = await make({ role: 'reader' })
    expect((await show(id)).scopes).toEqual({ read: ['*'], write: [] })
  })

  test.each([
    ['body.name', { role: 'reader', name: '' }],
    ['body.name', { role: 'reader', name: 'a\u0007b' }],
    ['body.role', { role: 'owner' }],
    ['body.role', {}],
    ['body.secret', { role: 'reader', secret: 'mine' }],
    ['body.scopes.read.0', { role: 'reader', scopes: { read: ['Not A Name'] } }],
    ['body.scopes.write', { role: 'reader', scopes: { write: ['notes'] } }],
    ['body.rows.$where', { role: 'reader', rows: { $where: '1' } }],
    ['body.expires_at', { role: 'reader', expires_at: 'tomorrow' }],
    ['body.expires_at', { role: 'reader', expires_at: '2001-01-01T00:00:00Z' }],
  ])('is refused by the name of the field, %s: %j', async (field, input) => {
    const answer = await callAs(app, admin.key, 'POST', KEYS, { body: { name: 'wrong', ...input } })
    expectError(answer, 400)
    expect(answer.json.details.map((fault: { field: string }) => fault.field)).toContain(field)
  })

  test('works as a bearer token and as x-api-key', async () => {
    const { key } = await make({ role: 'reader' })
    for (const headers of [bearer(key), { authorization: `bearer   ${key}` }, { 'x-api-key': key }]) {
      expect((await call(app, 'GET', TASKS, { headers })).status).toBe(200)
    }
    const basic = { authorization: 'Basic dTpw', 'x-api-key': key }
    expect((await call(app, 'GET', TASKS, { headers: basic })).status).toBe(401)
  })

  test('made on one instance works on another at once', async () => {
    expect(await status((await make({ role: 'reader' })).key, second)).toBe(200)
  })

  test('that is wrong, malformed or of no id is 401, in the same words', async () => {
    const { key, id } = await make({ role: 'reader' })
    await status(key)
    const wrong = formatKey({ id, secret: newSecret() })
    const unknown = formatKey({ id: 'abcdefghijkl', secret: newSecret() })
    const answers = []
    for (const text of [wrong, unknown, `${key}x`, 'dsk_', 'garbage']) {
      const answer = await callAs(app, text, 'GET', TASKS)
      expectError(answer, 401, 'UNAUTHORIZED')
      expect(answer.headers['www-authenticate']).toBe('Bearer')
      answers.push({ ...answer.json, requestId: '' })
    }
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1)
    expect(await status(key)).toBe(200)
  })

  test('with an expiry ends then, and says so to whoever has it', async () => {
    const { key, id } = await make({
      role: 'reader',
      expires_at: new Date(Date.now() + 700).toISOString(),
    })
    expect(await status(key)).toBe(200)
    await until(async () => (await status(key)) === 401)
    expect((await callAs(app, key, 'GET', TASKS)).json.message).toContain('expired')
    expect(await show(id)).toMatchObject({ status: 'expired' })
  })

  test('is noted as used, lazily', async () => {
    const { key, id } = await make({ role: 'reader' })
    const before = Date.now()
    expect(await status(key)).toBe(200)
    await until(async () => (await show(id)).last_used_at !== null, 8000)
    const used = Date.parse((await show(id)).last_used_at)
    expect(used).toBeGreaterThanOrEqual(before)
    expect(used).toBeLessThanOrEqual(Date.now())
  })
})

describe('a revoked key', () => {
  test('is refused at once where it was revoked, and elsewhere within a second', async () => {
    const { key, id } = await make({ role: 'writer' })
    expect([await status(key), await status(key, second)]).toEqual([200, 200])
    const revoked = await callAs(app, admin.key, 'DELETE', `${KEYS}/${id}`)
    const at = performance.now()
    expect(revoked.json.data).toMatchObject({ id, status: 'revoked', revoked_at: expect.any(String) })
    expect(await status(key)).toBe(401)
    await until(async () => (await status(key, second)) === 401)
    expect(performance.now() - at).toBeLessThan(1000)
    expect((await callAs(second, key, 'GET', TASKS)).json.message).toContain('revoked')
  })

  test('by SQL is heard of too', async () => {
    const { key, id } = await make({ role: 'writer' })
    expect([await status(key), await status(key, second)]).toEqual([200, 200])
    await database.pool.query('UPDATE dualstore.api_keys SET revoked_at = now() WHERE id = $1', [id])
    const at = performance.now()
    await until(async () => (await status(key)) === 401 && (await status(key, second)) === 401)
    expect(performance.now() - at).toBeLessThan(1000)
  })

  test('stays revoked, and is revoked twice as once', async () => {
    const { id } = await make({ role: 'reader' })
    const first = await callAs(app, admin.key, 'DELETE', `${KEYS}/${id}`)
    const again = await callAs(app, admin.key, 'DELETE', `${KEYS}/${id}`)
    expect(again.json.data.revoked_at).toBe(first.json.data.revoked_at)
    expect((await audit(`&key=${id}`)).filter(({ action }) => action === 'key.revoke')).toHaveLength(1)
    expectError(await callAs(app, admin.key, 'POST', `${KEYS}/${id}/rotate`), 409, 'CONFLICT')
    expectError(await callAs(app, admin.key, 'DELETE', `${KEYS}/abcdefghijkl`), 404, 'NOT_FOUND')
  })
})

describe('rotation', () => {
  const rotate = async (id: string, body?: object) => {
    const answer = await callAs(app, admin.key, 'POST', `${KEYS}/${id}/rotate`, {
      ...(body !== undefined && { body }),
    })
    expect(answer.status, answer.text).toBe(200)
    return answer.json.data as MadeKey & { previous_secret_until: string | null }
  }

  test('both secrets are good during the overlap, on every instance, and then the new one alone', async () => {
    const { key, id } = await make({ role: 'reader' })
    expect([await status(key), await status(key, second)]).toEqual([200, 200])
    const rotated = await rotate(id, { overlap_seconds: 2 })
    expect(rotated.id).toBe(id)
    expect(rotated.previous_secret_until).not.toBeNull()
    for (const on of [app, second]) {
      expect([await status(key, on), await status(rotated.key, on)]).toEqual([200, 200])
    }
    await until(async () => (await status(key)) === 401 && (await status(key, second)) === 401)
    expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(rotated.previous_secret_until as string))
    expect([await status(rotated.key), await status(rotated.key, second)]).toEqual([200, 200])
  })

  test('without an overlap the present secret ends at once', async () => {
    const { key, id } = await make({ role: 'reader' })
    expect(await status(key)).toBe(200)
    const rotated = await rotate(id, { overlap_seconds: 0 })
    expect([await status(key), await status(rotated.key)]).toEqual([401, 200])
  })

  test('again within the overlap ends the secret from before', async () => {
    const { key, id } = await make({ role: 'reader' })
    const once = await rotate(id)
    const twice = await rotate(id)
    expect([await status(key), await status(once.key), await status(twice.key)]).toEqual([401, 200, 200])
  })
})

describe('pruning', () => {
  const prune = async (body?: object) =>
    (await callAs(app, admin.key, 'POST', `${KEYS}/prune`, { ...(body && { body }) })).json.data.ids

  test('removes what ended long enough ago and nothing else', async () => {
    const active = await make({ role: 'reader' })
    const ended = await make({ role: 'reader' })
    await callAs(app, admin.key, 'DELETE', `${KEYS}/${ended.id}`)
    expect(await prune()).not.toContain(ended.id)
    const removed = await prune({ older_than_seconds: 0 })
    expect(removed).toContain(ended.id)
    expect(removed).not.toContain(active.id)
    expectError(await callAs(app, admin.key, 'GET', `${KEYS}/${ended.id}`), 404)
    expect(await status(active.key)).toBe(200)
    expect(await audit(`&key=${ended.id}`)).toMatchObject([
      { action: 'key.revoke' },
      { action: 'key.create' },
    ])
  })
})

describe('an admin with narrow rights', () => {
  const rows = { session_id: 'own' }
  let narrow: MadeKey
  beforeAll(async () => {
    narrow = await make({ role: 'admin', scopes: { read: ['team_*'], write: ['team_*'] }, rows })
  })
  const asNarrow = (input: object) =>
    callAs(app, narrow.key, 'POST', KEYS, { body: { name: 'of narrow', role: 'writer', ...input } })

  test('gives keys its own rights when nothing is said, and its own rows with any', async () => {
    const plain = (await asNarrow({})).json.data
    expect(plain).toMatchObject({ scopes: { read: ['team_*'], write: ['team_*'] } })
    expect(plain.rows).toEqual({ session_id: { $in: ['own'] } })
    const more = (await asNarrow({ rows: { role: 'user' } })).json.data
    expect(more.rows).toEqual({ $and: [{ session_id: { $in: ['own'] } }, { role: 'user' }] })
    // What it made it may manage.
    const listed = (await callAs(app, narrow.key, 'GET', KEYS)).json.data.map((key: MadeKey) => key.id)
    expect(listed.sort()).toEqual([narrow.id, plain.id, more.id].sort())
    expect((await callAs(app, narrow.key, 'DELETE', `${KEYS}/${more.id}`)).status).toBe(200)
  })

  test.each([
    ['read scope "*"', { scopes: { read: ['*'], write: [] } }],
    ['read scope "te*"', { scopes: { read: ['te*'], write: [] } }],
    ['write scope "agent_tasks"', { scopes: { read: [], write: ['team_a', 'agent_tasks'] } }],
  ])('cannot make a key with a wider scope: %s', async (named, input) => {
    const answer = await asNarrow(input)
    expectError(answer, 403, 'FORBIDDEN')
    expect(answer.json.message).toContain(named)
  })

  test('may make one with a narrower scope', async () => {
    const answer = await asNarrow({ role: 'admin', scopes: { read: ['team_a', 'team_*_log'], write: [] } })
    expect(answer.status, answer.text).toBe(201)
  })

  test('does not see, rotate or revoke keys beyond its own rights', async () => {
    for (const [method, path] of [
      ['GET', admin.id],
      ['DELETE', admin.id],
      ['POST', `${admin.id}/rotate`],
    ] as const) {
      expectError(await callAs(app, narrow.key, method, `${KEYS}/${path}`), 404, 'NOT_FOUND')
    }
    expect(await status(admin.key)).toBe(200)
    const scoped = await make({ role: 'reader', scopes: { read: ['team_a'] } })
    expectError(await callAs(app, narrow.key, 'DELETE', `${KEYS}/${scoped.id}`), 404)
  })

  test('does not see the audit, which names every collection', async () => {
    expectError(await callAs(app, narrow.key, 'GET', '/api/v1/audit'), 403, 'FORBIDDEN')
  })

  test('makes collections only within its scopes, sees no others, and changes none that hides rows from it', async () => {
    const schema = { type: 'object' }
    const asked = (name: string) =>
      callAs(app, narrow.key, 'POST', '/api/v1/collections', { body: { name, schema } })
    expectError(await asked('elsewhere'), 403, 'FORBIDDEN')
    expect((await asked('team_a')).status).toBe(201)
    const listed = await callAs(app, narrow.key, 'GET', '/api/v1/collections')
    expect(listed.json.data.map((collection: { name: string }) => collection.name)).toEqual(['team_a'])
    expectError(
      await callAs(app, narrow.key, 'GET', '/api/v1/collections/agent_tasks'),
      404,
      'COLLECTION_NOT_FOUND',
    )
    const dropped = await callAs(app, narrow.key, 'DELETE', '/api/v1/collections/team_a?confirm=team_a')
    expectError(dropped, 403, 'FORBIDDEN')
    const docs = await callAs(app, narrow.key, 'GET', '/docs/json')
    expect(Object.keys(docs.json.paths)).toContain('/api/v1/team_a')
    expect(Object.keys(docs.json.paths)).not.toContain('/api/v1/agent_tasks')
  })

  test('counts only the documents that its rows let it see', async () => {
    for (const session_id of ['own', 'own', 'other']) {
      await callAs(app, admin.key, 'POST', '/api/v1/team_a', { body: { session_id } })
    }
    const shown = await callAs(app, narrow.key, 'GET', '/api/v1/collections/team_a')
    const [listed] = (await callAs(app, narrow.key, 'GET', '/api/v1/collections')).json.data
    expect([shown.json.data.documents, listed.documents]).toEqual([2, 2])
  })
})

describe('the audit', () => {
  test('tells who did what to keys and collections, from where', async () => {
    const operator = await make({ role: 'admin', name: 'operator' })
    const { key } = operator
    const made = await makeKey(app, key, { role: 'writer', scopes: { read: ['*'], write: ['notes'] } })
    await callAs(app, key, 'POST', `${KEYS}/${made.id}/rotate`, { body: { overlap_seconds: 5 } })
    await callAs(app, key, 'DELETE', `${KEYS}/${made.id}`)
    const schema = { type: 'object' }
    await callAs(app, key, 'POST', '/api/v1/collections', { body: { name: 'audited', schema } })
    await callAs(app, key, 'PATCH', '/api/v1/collections/audited', { body: { label: 'Changed' } })
    await callAs(app, key, 'PATCH', '/api/v1/collections/audited?dry_run=true', { body: { label: 'Not' } })
    await callAs(app, key, 'DELETE', '/api/v1/collections/audited?confirm=audited')
    const entries = await audit(`&key=${operator.id}`)
    expect(entries.map(({ action, target }) => [action, target])).toEqual([
      ['collection.drop', 'audited'],
      ['collection.replace', 'audited'],
      ['collection.create', 'audited'],
      ['key.revoke', made.id],
      ['key.rotate', made.id],
      ['key.create', made.id],
      ['key.create', operator.id],
    ])
    for (const entry of entries.slice(0, -1)) {
      expect(entry).toMatchObject({
        at: expect.any(String),
        actor: `key:${operator.id}`,
        key_id: operator.id,
        address: '127.0.0.1',
      })
    }
    expect(entries[1]?.details).toEqual({ changed: ['label'], misfits: 0 })
    expect(entries[4]?.details).toEqual({ overlap_seconds: 5 })
  })

  test('what failed is not in it', async () => {
    const before = await audit()
    expect((await callAs(app, admin.key, 'POST', KEYS, { body: { name: '', role: 'admin' } })).status).toBe(
      400,
    )
    const taken = { name: 'agent_tasks', schema: { type: 'object' } }
    expect((await callAs(app, admin.key, 'POST', '/api/v1/collections', { body: taken })).status).toBe(409)
    expect(await audit()).toEqual(before)
  })

  test('pages without gap or repeat, and from a time on', async () => {
    const all = await audit()
    expect(all.length).toBeGreaterThan(10)
    const paged: unknown[] = []
    let cursor = ''
    do {
      const page = await callAs(app, admin.key, 'GET', `/api/v1/audit?limit=7${cursor}`)
      paged.push(...page.json.data)
      const next = page.json.pagination.next_cursor
      cursor = next === null ? '' : `&cursor=${next}`
    } while (cursor !== '')
    expect(paged).toEqual(all)
    const since = all[3]?.at as string
    const later = await audit(`&since=${encodeURIComponent(since)}`)
    expect(later.length).toBeGreaterThanOrEqual(4)
    expect(later.every(({ at }) => (at as string) >= since)).toBe(true)
    expectError(await callAs(app, admin.key, 'GET', '/api/v1/audit?since=yesterday'), 400)
    expectError(await callAs(app, admin.key, 'GET', '/api/v1/audit?cursor=x'), 400, 'INVALID_CURSOR')
  })

  test('is only ever added to', async () => {
    for (const sql of [
      'UPDATE dualstore.audit SET actor = $1',
      'DELETE FROM dualstore.audit WHERE actor = $1',
    ])
      await expect(database.pool.query(sql, ['x'])).rejects.toThrow(/only ever added to/)
    await expect(database.pool.query('TRUNCATE dualstore.audit')).rejects.toThrow(/only ever added to/)
  })
})

test('no secret stands in any table of the database', async () => {
  const made = await make({ role: 'reader', name: 'searched for' })
  await callAs(app, admin.key, 'POST', `${KEYS}/${made.id}/rotate`)
  await callAs(app, admin.key, 'POST', TASKS, {
    body: bodies.agent_tasks,
    headers: { 'idempotency-key': 'a' },
  })
  const secrets = [admin.key, made.key].map((key) => parseKey(key)?.secret as string)
  const { rows: tables } = await database.pool.query<{ name: string }>(
    `SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
     WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`,
  )
  expect(tables.length).toBeGreaterThan(10)
  let searched = 0
  for (const { name } of tables) {
    const { rows } = await database.pool.query<{ text: string }>(`SELECT t::text AS text FROM ${name} t`)
    searched += rows.length
    // A row as text has bytea in hexadecimal.
    for (const secret of secrets) {
      const hex = Buffer.from(secret).toString('hex')
      expect(rows.filter(({ text }) => text.includes(secret) || text.includes(hex))).toEqual([])
    }
  }
  expect(searched).toBeGreaterThan(20)
})

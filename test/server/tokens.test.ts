import { decodeJwt, decodeProtectedHeader } from 'jose'
import { describe, expect, test } from 'vitest'
import { bodies, call, expectError, withQuery } from '../support/http.js'
import { bearer } from '../support/keys.js'
import { atEndOfFile } from '../support/leaks.js'
import { type StoreProxy, startProxy } from '../support/proxy.js'
import { testServer } from '../support/server.js'
import { askToken, forgerOf, serverWithKeys, signedBy, tokenOf } from '../support/tokens.js'

const TASKS = '/api/v1/agent_tasks'
const { app, pool, another, makeKey, revoke } = await serverWithKeys()
const admin = await makeKey()
const get = (token: string, url = TASKS, on = app) => call(on, 'GET', url, { headers: bearer(token) })
const post = (token: string, body: object = bodies.agent_tasks ?? {}) =>
  call(app, 'POST', TASKS, { headers: bearer(token), body })

describe('POST /auth/token', () => {
  test('changes a key for a token that works like it, and is kept by nobody on the way', async () => {
    const answer = await askToken(app, admin.key)
    expect(answer.status, answer.text).toBe(200)
    expect(answer.json).toEqual({
      success: true,
      data: { token: expect.any(String), expires_at: expect.any(String) },
    })
    expect(answer.headers['cache-control']).toBe('no-store')
    expect((await get(answer.json.data.token)).status).toBe(200)
    expect((await post(answer.json.data.token)).status).toBe(201)
    const byHeader = await call(app, 'POST', '/api/v1/auth/token', { headers: { 'x-api-key': admin.key } })
    const token = byHeader.json.data.token as string
    expect((await call(app, 'GET', TASKS, { headers: { 'x-api-key': token } })).status).toBe(200)
  })

  test('gives less where less is asked for', async () => {
    const reader = await tokenOf(app, admin.key, { role: 'reader' })
    expect((await get(reader)).status).toBe(200)
    expectError(await post(reader), 403, 'FORBIDDEN')

    const elsewhere = await tokenOf(app, admin.key, { collections: ['session_messages'] })
    expectError(await get(elsewhere), 403, 'FORBIDDEN')
    expect((await get(elsewhere, '/api/v1/session_messages')).status).toBe(200)

    await post(admin.key, { ...bodies.agent_tasks, agent_id: 'mine' })
    const mine = await tokenOf(app, admin.key, { filter: { agent_id: 'mine' } })
    expect((await get(mine)).json.pagination.total).toBe(1)
    const narrower = await tokenOf(app, mine, { filter: { agent_id: 'a1' } })
    expect((await get(narrower)).json.pagination.total).toBe(0)
  })

  test.each([
    [{ role: 'root' }, 'body.role'],
    [{ expires_in: 0 }, 'body.expires_in'],
    [{ expires_in: 3601 }, 'body.expires_in'],
    [{ read: ['No Such'] }, 'body.read.0'],
    [{ iss: 'other' }, 'body.iss'],
    [{ for: 'stream' }, 'body.collection'],
    [{ for: 'stream', collection: '*' }, 'body.collection'],
    [{ filter: { a: { $where: '1' } } }, 'body.filter.a.$where'],
    [[], 'body'],
  ])('%j is a bad request that names %s', async (body, field) => {
    const answer = await askToken(app, admin.key, body)
    expectError(answer, 400)
    expect(answer.json.details.map((fault: { field: string }) => fault.field)).toContain(field)
  })

  test('refuses more than the key has, and names what', async () => {
    const reader = await makeKey({ role: 'reader', scopes: { read: ['agent_*'] } })
    for (const [body, field] of [
      [{ role: 'writer' }, 'body.role'],
      [{ read: ['*'] }, 'body.read'],
      [{ write: ['agent_tasks'] }, 'body.write'],
      [{ for: 'stream', collection: 'session_messages' }, 'body.collection'],
    ] as const) {
      const answer = await askToken(app, reader.key, body)
      expectError(answer, 403, 'FORBIDDEN')
      expect(answer.json.details[0].field).toBe(field)
    }
  })

  test('needs a key', async () => {
    expectError(await call(app, 'POST', '/api/v1/auth/token'), 401, 'UNAUTHORIZED')
    const open = await testServer('embedded', { authEnabled: false })
    expectError(await call(open, 'POST', '/api/v1/auth/token'), 403, 'FORBIDDEN')
    const legacy = await testServer('embedded', { authBearerToken: 'secret-1' })
    expectError(await askToken(legacy, 'secret-1'), 403, 'FORBIDDEN')
  })

  test('is written down, without the token', async () => {
    const { key, id } = await makeKey()
    const token = await tokenOf(app, key)
    const { rows } = await pool.query('SELECT * FROM dualstore.audit WHERE key_id = $1', [id])
    const { jti, exp = 0 } = decodeJwt(token)
    const details = { jti, use: 'api', expires_at: new Date(exp * 1000).toISOString() }
    expect(rows).toMatchObject([{ action: 'token.create', actor: `key:${id}`, details }])
    expect(JSON.stringify(rows)).not.toContain(token.split('.')[2])
  })
})

describe('a token that was good', () => {
  test('is refused on every instance as soon as its key is revoked', async () => {
    const other = await another()
    const { key, id } = await makeKey()
    const token = await tokenOf(app, key)
    expect((await get(token)).status).toBe(200)
    expect((await get(token, TASKS, other)).status).toBe(200)
    await revoke(id)
    const revokedAt = performance.now()
    for (const instance of [app, other]) {
      await expect.poll(async () => (await get(token, TASKS, instance)).status, { interval: 20 }).toBe(401)
    }
    expect(performance.now() - revokedAt).toBeLessThan(2000)
    expectError(await askToken(app, token), 401, 'UNAUTHORIZED')
  })

  test('is refused once it has expired, and says so', async () => {
    const forge = await forgerOf(pool)
    const now = Math.floor(Date.now() / 1000)
    const answer = await get(await forge({ claims: { iat: now - 400, exp: now - 31 } }))
    expectError(answer, 401, 'UNAUTHORIZED')
    expect(answer.json.message).toContain('expired')
    expect(answer.headers['www-authenticate']).toBe('Bearer')
    // A clock may be 30 s behind.
    expect((await get(await forge({ claims: { iat: now - 400, exp: now - 10 } }))).status).toBe(200)
  })

  test('is good on every instance while secrets are rotated', async () => {
    const other = await another()
    const before = await tokenOf(app, admin.key)
    await pool.query('UPDATE dualstore.token_secrets SET created_at = created_at - 86400001')
    const behind = await tokenOf(other, admin.key)
    expect(decodeProtectedHeader(behind).kid).not.toBe(decodeProtectedHeader(before).kid)
    for (const token of [before, behind])
      for (const instance of [app, other]) expect((await get(token, TASKS, instance)).status).toBe(200)
  })

  test('is refused when a restored database does not know its secret, and new ones are good', async () => {
    const other = await another()
    const kept = await tokenOf(app, admin.key)
    await pool.query('UPDATE dualstore.token_secrets SET created_at = created_at - 86400001')
    const lost = await tokenOf(app, admin.key)
    expect((await get(lost, TASKS, other)).status).toBe(200)
    const { kid } = decodeProtectedHeader(lost)
    await pool.query('DELETE FROM dualstore.token_secrets WHERE kid = $1', [kid])
    for (const instance of [app, other])
      await expect.poll(async () => (await get(lost, TASKS, instance)).status, { timeout: 5000 }).toBe(401)
    const fresh = await tokenOf(app, admin.key)
    for (const token of [kept, fresh]) expect((await get(token, TASKS, other)).status).toBe(200)
  })
})

test('a token in the query is refused wherever none is taken', async () => {
  const token = await tokenOf(app, admin.key)
  for (const url of [
    TASKS,
    '/health',
    '/health/live',
    '/docs/json',
    '/api/v1/agent_tasks/changes',
    '/nowhere',
  ]) {
    const answer = await call(app, 'GET', withQuery(url, { access_token: token }), {
      headers: bearer(admin.key),
    })
    expectError(answer, 400, 'INVALID_REQUEST')
    expect(answer.json.details[0].field).toBe('query.access_token')
    expect(answer.text).not.toContain(token)
  }
})

test('while PostgreSQL is away a token may read what the mirror has, and an unknown one is not called wrong', async () => {
  let proxy: StoreProxy | undefined
  const away = await serverWithKeys({}, async (url) => {
    proxy = await startProxy(url)
    atEndOfFile(async () => proxy?.close())
    return proxy.through(url)
  })
  const { key } = await away.makeKey()
  const token = await tokenOf(away.app, key)
  const strict = { ...bearer(token), 'x-dualstore-consistency': 'strict' }
  const made = await call(away.app, 'POST', TASKS, { headers: strict, body: bodies.agent_tasks })
  const url = `${TASKS}/${made.json.data.id}`
  const unknown = signedBy('x', { alg: 'HS256', kid: 'made-elsewhere' }, decodeJwt(token))

  proxy?.cut()
  const headers = { ...bearer(token), 'x-dualstore-read-from': 'mirror' }
  expect((await call(away.app, 'GET', url, { headers })).status).toBe(200)
  expectError(await call(away.app, 'DELETE', url, { headers: bearer(token) }), 503, 'STORE_UNAVAILABLE')
  expectError(await get(unknown, url, away.app), 503, 'STORE_UNAVAILABLE')
  expectError(await askToken(away.app, token), 503, 'STORE_UNAVAILABLE')
  proxy?.restore()
  await expect.poll(async () => (await get(token, url, away.app)).status).toBe(200)
  // The secrets are read when an unknown one is asked for, over a connection that may still be one of the outage.
  await expect.poll(async () => (await get(unknown, url, away.app)).status).toBe(401)
})

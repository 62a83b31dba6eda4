import { describe, expect, test } from 'vitest'
import { authIsOn, loadConfig } from '../../src/server/config/index.js'
import { ofType, openStream } from '../support/event-stream.js'
import { bodies, expectError, withQuery } from '../support/http.js'
import { AUDIENCE, type Claims, ISSUER, jwksServer, keyPair, nowSeconds, signed } from '../support/issuer.js'
import { callAs } from '../support/keys.js'
import { testServer } from '../support/server.js'
import { serverWithKeys, tokenOf } from '../support/tokens.js'

const TASKS = '/api/v1/agent_tasks'
const rsa = await keyPair('RS256', 'rsa-1')
const jwks = await jwksServer(() => [rsa.publicJwk])
const issuer = { jwtIssuer: ISSUER, jwtAudience: AUDIENCE, jwtJwksUrl: jwks.url }
const mapping = {
  jwtRoleClaim: 'groups',
  jwtRoleNames: ['ds-writers=writer', 'ds-readers=reader', 'ds-admins=admin'],
  jwtScopesClaim: 'scope',
  jwtRowsClaim: 'rows',
}
const { app, makeKey } = await serverWithKeys({ ...issuer, ...mapping, authEnabled: undefined })

/** A token of the provider, which may read and write every task of one agent. */
const token = (claims: Claims = {}) =>
  signed(rsa, {
    groups: ['ds-writers'],
    scope: 'openid read:agent_tasks write:agent_tasks',
    rows: { agent_id: 'a1' },
    ...claims,
  })
const get = (text: string, url = TASKS) => callAs(app, text, 'GET', url)
const post = (text: string, more: object = {}) =>
  callAs(app, text, 'POST', TASKS, { body: { ...bodies.agent_tasks, ...more } })

describe('a token of the provider', () => {
  test('has the rights that its claims say', async () => {
    expect((await post(await token())).status).toBe(201)
    expectError(await post(await token(), { agent_id: 'a2' }), 403, 'FORBIDDEN')
    expectError(await get(await token(), '/api/v1/session_messages'), 403, 'FORBIDDEN')
    expectError(await post(await token({ groups: 'ds-readers' })), 403, 'FORBIDDEN')
    expectError(await get(await token({ scope: 'openid' })), 403, 'FORBIDDEN')
    expectError(await get(await token({ groups: [] })), 401, 'UNAUTHORIZED')
    expectError(await get(await token({ rows: undefined })), 401, 'UNAUTHORIZED')
    expectError(await get(await token({ aud: 'another-service' })), 401, 'UNAUTHORIZED')
    const { key } = await makeKey({ role: 'writer' })
    await post(key, { agent_id: 'a2' })
    const { data } = (await get(await token())).json
    expect(new Set(data.map(({ agent_id }: { agent_id: string }) => agent_id))).toEqual(new Set(['a1']))
  })

  test('stands with its issuer and subject in the log of changes', async () => {
    await post(await token({ sub: 'alice@example' }))
    const { key } = await makeKey()
    const { json } = await get(key, '/api/v1/audit/documents?limit=1')
    expect(json.data[0].author).toBe(`token:${ISSUER}:alice@example`)
  })

  test('can be changed for one that opens a stream, which ends with it', async () => {
    const base = await app.listen({ host: '127.0.0.1', port: 0 })
    const short = await token({ exp: nowSeconds() + 4 })
    const forStream = await tokenOf(app, short, { for: 'stream', collection: 'agent_tasks' })
    const url = withQuery('/api/v1/stream/agent_tasks', { access_token: forStream })
    const opened = await openStream(base + url)
    await opened.until(ofType('connection'))
    await post(await token(), { task_type: 'seen' })
    expect((await opened.until(ofType('insert'))).data.data.task_type).toBe('seen')
    expect((await opened.until(ofType('close'))).data.data.reason).toBe('unauthorized')
  })

  test('is answered with 503 while the keys cannot be read, keys are not', async () => {
    const away = await testServer('embedded', { ...issuer, jwtJwksUrl: 'http://127.0.0.1:9/jwks.json' })
    const answer = await callAs(away, await token({ role: 'reader' }), 'GET', TASKS)
    expectError(answer, 503, 'ISSUER_UNAVAILABLE')
    expect(answer.headers['retry-after']).toBe('1')
    expect(answer.text).not.toContain('127.0.0.1')
    expectError(await callAs(away, 'dsk_wrong', 'GET', TASKS), 401, 'UNAUTHORIZED')
  })
})

describe('settings', () => {
  test('an issuer turns authentication on', () => {
    expect(authIsOn(loadConfig({ given: issuer, env: {} }).config)).toBe(true)
    expect(authIsOn(loadConfig({ given: { ...issuer, authEnabled: false }, env: {} }).config)).toBe(false)
  })

  test.each([
    [{ ...issuer, jwtAudience: undefined }, /belong together/],
    [{ ...issuer, jwtJwksUrl: undefined }, /belong together/],
    [{ jwtAudience: 'x' }, /belong together/],
    [{ ...issuer, jwtJwksUrl: 'http://' }, /a URL/],
    [{ ...issuer, jwtRoleNames: ['ds-admins=root'] }, /ds-admins=root/],
  ])('%j does not start', async (options, message) => {
    await expect(testServer('embedded', options)).rejects.toThrow(message)
  })
})

import Fastify from 'fastify'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import { beforeEach, describe, expect, test } from 'vitest'
import { loadConfig } from '../../../src/server/config/index.js'
import { everything } from '../../../src/server/filter/ast.js'
import { matches } from '../../../src/server/filter/matches.js'
import { parseFilter } from '../../../src/server/filter/parse.js'
import { registerTokenCodec } from '../../../src/server/plugins/token-codec.js'
import type { TokenRequest } from '../../../src/server/schemas/token.js'
import { covers, type Principal, unrestricted } from '../../../src/server/services/principal.js'
import { createTokenSecrets } from '../../../src/server/services/token-secrets.js'
import { createTokenService } from '../../../src/server/services/tokens.js'
import { testDatabase } from '../../support/database.js'

const { pool } = await testDatabase()
const { config } = loadConfig({ env: {} })
const secrets = createTokenSecrets({ pool, rotationMs: 86_400_000, clockSkewMs: config.tokenClockSkewMs })
const revoked = new Set<string>()
const tokens = createTokenService({
  pool,
  secrets,
  codec: await registerTokenCodec(Fastify(), { clockSkewMs: config.tokenClockSkewMs }),
  keys: { ensure: async (keyId) => !revoked.has(keyId) },
  lifetimeMs: config.tokenLifetimeMs,
  clockSkewMs: config.tokenClockSkewMs,
})

const key: Principal = {
  kind: 'key',
  id: 'key:abc',
  role: 'writer',
  scopes: { read: ['notes', 'team_*'], write: ['team_*'] },
  rows: parseFilter({ tenant: 't1' }),
  keyId: 'abc',
  expiresAt: undefined,
}
const issue = (principal: Principal, wish?: TokenRequest) =>
  tokens.issue({ principal, address: '10.0.0.1' }, wish)
const api = (token: string) => tokens.authenticator.authenticate(token, 'read')
const streams = (token: string) => tokens.streamAuthenticator.authenticate(token, 'read')

/** More than a token has room for. */
const manyValues = Array.from({ length: 1000 }, (_, index) => `value-${index}`)
const issued = async (wish: TokenRequest = {}, principal = key) => {
  const { token } = await issue(principal, wish)
  return (wish.for === 'stream' ? streams : api)(token)
}

beforeEach(() => revoked.clear())

describe('a token', () => {
  test('has the rights of its key, and is short', async () => {
    const before = Math.floor(Date.now() / 1000)
    const { token, expires_at } = await issue(key)
    const { exp = 0, iat = 0, jti, sub } = decodeJwt(token)
    expect(decodeProtectedHeader(token)).toMatchObject({ alg: 'HS256', kid: expect.any(String) })
    expect([exp - iat, sub, typeof jti]).toEqual([900, 'key:abc', 'string'])
    expect(iat).toBeGreaterThanOrEqual(before)
    expect(Date.parse(expires_at)).toBe(exp * 1000)

    const { rows, ...principal } = await api(token)
    expect(principal).toEqual({
      kind: 'token',
      id: 'key:abc',
      role: 'writer',
      scopes: key.scopes,
      keyId: 'abc',
      expiresAt: exp * 1000,
    })
    expect(matches(rows, { tenant: 't1' })).toBe(true)
    expect(matches(rows, { tenant: 't2' })).toBe(false)
  })

  test('has less where less is asked for', async () => {
    const principal = await issued({
      role: 'reader',
      read: ['notes', 'team_a*'],
      write: [],
      filter: { open: true },
      expires_in: 60,
    })
    expect(principal).toMatchObject({ role: 'reader', scopes: { read: ['notes', 'team_a*'], write: [] } })
    expect((principal.expiresAt ?? 0) - Date.now()).toBeLessThanOrEqual(60_000)
    // The key's own filter stays.
    expect(matches(principal.rows, { tenant: 't1', open: true })).toBe(true)
    expect(matches(principal.rows, { tenant: 't1', open: false })).toBe(false)
    expect(matches(principal.rows, { tenant: 't2', open: true })).toBe(false)
  })

  test('for some collections keeps what the key may do in each', async () => {
    const { scopes } = await issued({ collections: ['notes', 'team_a'] })
    expect(scopes).toEqual({ read: ['notes', 'team_a'], write: ['team_a'] })
  })

  test.each<[TokenRequest, string, string]>([
    [{ role: 'admin' }, 'FORBIDDEN', 'body.role'],
    [{ read: ['*'] }, 'FORBIDDEN', 'body.read'],
    [{ read: ['notes', 'tea*'] }, 'FORBIDDEN', 'body.read[1]'],
    [{ write: ['notes'] }, 'FORBIDDEN', 'body.write'],
    [{ collections: ['notes', 'other'] }, 'FORBIDDEN', 'body.collections[1]'],
    [{ collections: ['notes'], read: ['notes'] }, 'INVALID_REQUEST', 'body.collections'],
    [{ filter: { a: { $where: 1 } } }, 'INVALID_FILTER', 'body.filter.a.$where'],
    [{ filter: '{' }, 'INVALID_FILTER', 'body.filter'],
    [{ filter: { a: { $in: manyValues } } }, 'INVALID_REQUEST', 'body'],
    [{ collection: 'notes' }, 'INVALID_REQUEST', 'body.collection'],
    [{ for: 'stream' }, 'INVALID_REQUEST', 'body.collection'],
    [{ for: 'stream', collection: 'other' }, 'FORBIDDEN', 'body.collection'],
    [{ for: 'stream', collection: 'notes', role: 'reader' }, 'INVALID_REQUEST', 'body.role'],
    [{ for: 'stream', collection: 'notes', read: ['notes'] }, 'INVALID_REQUEST', 'body.read'],
    [{ for: 'stream', collection: 'notes', expires_in: 301 }, 'INVALID_REQUEST', 'body.expires_in'],
  ])('%j is refused with %s, naming %s', async (wish, code, field) => {
    await expect(issue(key, wish)).rejects.toMatchObject({ code, details: [{ field }] })
  })

  test.each(['everyone', 'legacy', 'local'] as const)('is not made for %s', async (kind) => {
    await expect(issue(unrestricted(kind))).rejects.toMatchObject({ code: 'FORBIDDEN' })
  })

  test('lives no longer than its key, and a token made of it no longer than it', async () => {
    const expiresAt = Date.now() + 20_000
    const first = await issued({}, { ...key, expiresAt })
    expect(first.expiresAt).toBe(Math.floor(expiresAt / 1000) * 1000)
    const second = await issued({ expires_in: 3600 }, first)
    expect(second.expiresAt).toBe(first.expiresAt)
    // The clocks may be apart, but that prolongs nothing.
    await expect(issue({ ...first, expiresAt: Date.now() - 1000 })).rejects.toMatchObject({
      code: 'UNAUTHORIZED',
    })
  })

  test('of a token has no more than that one, and falls with the key', async () => {
    const first = await issued({ read: ['notes'], write: [], role: 'reader' })
    await expect(issue(first, { read: ['team_a'] })).rejects.toMatchObject({ code: 'FORBIDDEN' })
    await expect(issue(first, { role: 'writer' })).rejects.toMatchObject({ code: 'FORBIDDEN' })
    const second = await issue(first)
    revoked.add('abc')
    await expect(api(second.token)).rejects.toMatchObject({ code: 'UNAUTHORIZED' })
  })

  test('falls with its key and with its secret, also when it was just used', async () => {
    const { token } = await issue(key)
    const principal = await api(token)
    expect(await api(token)).toBe(principal)
    revoked.add('abc')
    await expect(api(token)).rejects.toMatchObject({ code: 'UNAUTHORIZED' })
    revoked.clear()
    expect(await api(token)).toBe(principal)

    await pool.query('DELETE FROM dualstore.token_secrets')
    const stop = secrets.watch(10)
    await expect.poll(() => api(token).catch(({ code }) => code)).toBe('UNAUTHORIZED')
    stop()
  })
})

describe('a token for a stream', () => {
  test('reads one collection, for a minute', async () => {
    const { token, expires_at } = await issue(key, { for: 'stream', collection: 'team_a' })
    expect(Date.parse(expires_at) - Date.now()).toBeLessThanOrEqual(60_000)
    const principal = await streams(token)
    expect(principal).toMatchObject({ role: 'reader', scopes: { read: ['team_a'], write: [] }, keyId: 'abc' })
    expect(covers(principal, 'read', 'team_b')).toBe(false)
  })

  test('ends with what it was made of, not with its own minute', async () => {
    const wish = { for: 'stream', collection: 'team_a' } as const
    expect((await issued(wish)).expiresAt).toBeUndefined()
    const expiresAt = Math.floor(Date.now() / 1000) * 1000 + 7_200_000
    expect((await issued(wish, { ...key, expiresAt })).expiresAt).toBe(expiresAt)
  })

  test('is taken for nothing else, and no other token for a stream', async () => {
    const stream = await issue(key, { for: 'stream', collection: 'team_a' })
    await expect(api(stream.token)).rejects.toMatchObject({ code: 'UNAUTHORIZED' })
    const other = await issue({ ...key, rows: everything })
    await expect(streams(other.token)).rejects.toMatchObject({ code: 'UNAUTHORIZED' })
  })
})

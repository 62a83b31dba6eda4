import { decodeJwt, decodeProtectedHeader, UnsecuredJWT } from 'jose'
import { describe, expect, test } from 'vitest'
import { bodies, call, expectError } from '../support/http.js'
import { bearer } from '../support/keys.js'
import { type Forgery, forgerOf, serverWithKeys, signedBy, signedText, tokenOf } from '../support/tokens.js'

const TASKS = '/api/v1/agent_tasks'
const { app, pool, makeKey } = await serverWithKeys()
const admin = await makeKey()
// The first token makes the secret.
await tokenOf(app, admin.key)
const get = (token: string) => call(app, 'GET', TASKS, { headers: bearer(token) })
const post = (token: string) =>
  call(app, 'POST', TASKS, { headers: bearer(token), body: bodies.agent_tasks ?? {} })

describe('a forged token is refused', () => {
  const now = Math.floor(Date.now() / 1000)
  const withRightSignature: [string, Forgery][] = [
    ['of another issuer', { claims: { iss: 'other' } }],
    ['of several issuers', { claims: { iss: ['dualstore'] } }],
    ['for another audience', { claims: { aud: 'other' } }],
    ['that never expires', { claims: { exp: undefined } }],
    ['that expires in a week', { claims: { exp: now + 604_800 } }],
    ['that expires at a text', { claims: { exp: String(now + 300) } }],
    ['that expires at a fraction', { claims: { exp: now + 300.5 } }],
    ['without a time', { claims: { iat: undefined } }],
    ['from the future', { claims: { iat: now + 300, exp: now + 600 } }],
    ['that is not valid yet', { claims: { nbf: now + 300 } }],
    ['without an id', { claims: { jti: undefined } }],
    ['without a subject', { claims: { sub: undefined } }],
    ['without a role', { claims: { role: undefined } }],
    ['with an unknown role', { claims: { role: 'root' } }],
    ['with several roles', { claims: { role: ['admin'] } }],
    ['with scopes of another shape', { claims: { scopes: ['*'] } }],
    ['with scopes of another type', { claims: { scopes: { read: '*', write: '*' } } }],
    ['without rows', { claims: { rows: undefined } }],
    ['without a use', { claims: { use: undefined } }],
    ['for another use', { claims: { use: 'root' } }],
    ['of a key that there is not', { claims: { key: 'AAAAAAAAAAAA' } }],
    ['of a key by a strange name', { claims: { key: "' OR 1=1 --" } }],
    ['with another algorithm', { header: { alg: 'HS384' } }],
  ]
  test.each(withRightSignature)('%s', async (_what, forgery) => {
    const forge = await forgerOf(pool)
    expect((await get(await forge())).status).toBe(200)
    expectError(await get(await forge(forgery)), 401, 'UNAUTHORIZED')
  })

  test('with a header that it has no right to, although the signature is right', async () => {
    const good = parts(await tokenOf(app, admin.key))
    const { rows } = await pool.query('SELECT secret FROM dualstore.token_secrets WHERE kid = $1', [
      good.header.kid,
    ])
    const resign = (header: object) => signedBy(rows[0].secret, header, good.payload)
    expect((await get(resign(good.header))).status).toBe(200)
    // Looked at by nobody.
    for (const more of [
      { jwk: { kty: 'oct', k: 'AAAA' } },
      { jku: 'http://127.0.0.1:9/' },
      { x5u: 'http://127.0.0.1:9/' },
    ])
      expect((await get(resign({ ...good.header, ...more }))).status).toBe(200)
    for (const wrong of [
      { alg: 'none' },
      { alg: 'RS256' },
      { alg: undefined },
      { alg: { toString: 'HS256' } },
      { alg: ['HS256'] },
      { crit: ['x'], x: 1 },
      { crit: [] },
      { kid: undefined },
    ])
      expectError(await get(resign({ ...good.header, ...wrong })), 401, 'UNAUTHORIZED')
  })

  test.each([
    'unknown-kid-1',
    '',
    '../../../../etc/passwd',
    "' OR 1=1 --",
    "x'; DROP TABLE dualstore.token_secrets; --",
    '__proto__',
    'constructor',
    'a'.repeat(5000),
    '\u0000',
    7,
    ['a'],
    { toString: 'a' },
    null,
  ])('with the name of a secret that is none: %j', async (kid) => {
    const { payload } = parts(await tokenOf(app, admin.key))
    for (const secret of ['', 'secret', JSON.stringify(kid)])
      expectError(await get(signedBy(secret, { alg: 'HS256', kid }, payload)), 401, 'UNAUTHORIZED')
  })

  test('unsigned, half signed, or cut', async () => {
    const good = await tokenOf(app, admin.key)
    const [head = '', body = '', signature = ''] = good.split('.')
    const unsecured = new UnsecuredJWT(decodeJwt(good)).encode()
    for (const token of [
      unsecured,
      `${unsecured}${signature}`,
      `${head}.${body}.`,
      `${head}.${body}`,
      `${head}..${signature}`,
      `.${body}.${signature}`,
      `${head}.${body}.${signature}.`,
      `${head}.${body}.${signature}=`,
      `${head}.${body}.${signature.slice(1)}`,
      `${head}.${body}.${signature.toUpperCase()}`,
      good.replace('.', '..'),
      '..',
      'eyJ',
      'eyJhbGciOiJIUzI1NiJ9',
    ])
      expectError(await get(token), 401, 'UNAUTHORIZED')
  })

  test('with other claims under a right signature', async () => {
    const reader = await tokenOf(app, admin.key, { role: 'reader' })
    const [head, body = '', signature] = reader.split('.')
    const claims = Buffer.from(body, 'base64url').toString().replace('"reader"', '"admin"')
    expectError(
      await get(`${head}.${Buffer.from(claims).toString('base64url')}.${signature}`),
      401,
      'UNAUTHORIZED',
    )
  })

  test('with a claim twice is read one way only, whoever reads it', async () => {
    const { header } = parts(await tokenOf(app, admin.key))
    const { rows } = await pool.query('SELECT secret FROM dualstore.token_secrets WHERE kid = $1', [
      header.kid,
    ])
    const forge = await forgerOf(pool)
    const claims = Buffer.from((await forge()).split('.')[1] ?? '', 'base64url').toString()
    const twice = (text: string) => signedText(rows[0].secret, JSON.stringify(header), text)
    // The last one counts, in the check and in the use.
    const lastReader = twice(claims.replace('"role":"admin"', '"role":"admin","role":"reader"'))
    expect((await get(lastReader)).status).toBe(200)
    expectError(await post(lastReader), 403, 'FORBIDDEN')
    const ignored = twice(claims.replace('{', '{"__proto__":{"role":"admin"},"constructor":1,'))
    expect((await get(ignored)).status).toBe(200)
    const onlyInherited = twice(claims.replace('"role":"admin"', '"__proto__":{"role":"admin"}'))
    expectError(await get(onlyInherited), 401, 'UNAUTHORIZED')
    const headerTwice = signedText(
      rows[0].secret,
      JSON.stringify(header).replace('{', '{"alg":"none","kid":"x",'),
      claims,
    )
    expect((await get(headerTwice)).status).toBe(200)
  })

  test('longer than any may be, whatever it holds', async () => {
    const forge = await forgerOf(pool)
    expectError(await get(await forge({ claims: { more: 'x'.repeat(8192) } })), 401, 'UNAUTHORIZED')
    expectError(await get(`eyJhbGciOiJIUzI1NiJ9.${'x'.repeat(9000)}.x`), 401, 'UNAUTHORIZED')
  })

  test('none of it has changed the secrets', async () => {
    const { rows } = await pool.query('SELECT count(*)::int AS count FROM dualstore.token_secrets')
    expect(rows[0].count).toBeGreaterThan(0)
  })
})

function parts(token: string) {
  return { header: decodeProtectedHeader(token), payload: decodeJwt(token) }
}

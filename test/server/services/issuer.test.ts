import { createHmac } from 'node:crypto'
import type { RequestListener } from 'node:http'
import { type CryptoKey, exportSPKI, importJWK, SignJWT, UnsecuredJWT } from 'jose'
import { beforeEach, describe, expect, test } from 'vitest'
import { matches } from '../../../src/server/filter/matches.js'
import { type ClaimMapping, createIssuer } from '../../../src/server/services/issuer.js'
import { remoteKeys } from '../../../src/server/services/jwks.js'
import {
  AUDIENCE,
  type Claims,
  claimsOf,
  ISSUER,
  jwksServer,
  keyPair,
  nowSeconds,
  signed,
} from '../../support/issuer.js'

const rsa = await keyPair('RS256', 'rsa-1')
const ec = await keyPair('ES256', 'ec-1')
const ed = await keyPair('EdDSA', 'ed-1')
const stranger = await keyPair('RS256', 'rsa-1')
const latecomer = await keyPair('RS256', 'rsa-2')
let published = [rsa, ec, ed]
const jwks = await jwksServer(() => published.map(({ publicJwk }) => publicJwk))
const failures: string[] = []

const plain: ClaimMapping = { role: 'role', roleNames: undefined, scopes: undefined, rows: undefined }
const issuerOf = (mapping: Partial<ClaimMapping> = {}, url = jwks.url) =>
  createIssuer({
    issuer: ISSUER,
    audience: AUDIENCE,
    keys: remoteKeys({ url, onFailure: ({ message }) => failures.push(message) }),
    mapping: { ...plain, ...mapping },
    clockSkewMs: 30_000,
  })
const issuer = issuerOf()
const codeOf = (token: string, of = issuer) =>
  of.authenticate(token, 'read').then(
    () => 'taken',
    ({ code }) => code as string,
  )

beforeEach(() => {
  failures.length = 0
  published = [rsa, ec, ed]
  jwks.answerWith()
})

describe('a token of the issuer', () => {
  test.each([
    ['RS256', rsa],
    ['ES256', ec],
    ['EdDSA', ed],
  ])('signed with %s is taken', async (_alg, pair) => {
    const exp = nowSeconds() + 100
    const token = await signed(pair, { exp })
    expect(issuer.accepts(token)).toBe(true)
    expect(await issuer.authenticate(token, 'read')).toEqual({
      kind: 'token',
      id: `token:${ISSUER}:alice`,
      role: 'reader',
      scopes: { read: ['*'], write: ['*'] },
      rows: { op: 'and', of: [] },
      keyId: undefined,
      expiresAt: exp * 1000,
    })
  })

  test('costs no request once the keys are known', async () => {
    await issuer.authenticate(await signed(rsa), 'read')
    const before = jwks.requests
    for (let count = 0; count < 20; count++)
      await issuer.authenticate(await signed(ec, { jti: String(count) }), 'read')
    expect(jwks.requests).toBe(before)
  })

  const now = nowSeconds()
  test.each<[string, Claims]>([
    ['of another issuer', { iss: 'https://other.example' }],
    ['of an issuer that begins alike', { iss: `${ISSUER}/` }],
    ['of no issuer', { iss: undefined }],
    ['for another audience', { aud: 'other' }],
    ['for no audience', { aud: undefined }],
    ['for an audience that is no text', { aud: [{ toString: 'x' }] }],
    ['that never expires', { exp: undefined }],
    ['that expires at no number', { exp: '9999999999' }],
    ['that has expired', { exp: now - 31 }],
    ['that is not valid yet', { nbf: now + 90 }],
    ['from the future', { iat: now + 90 }],
    ['without a subject', { sub: undefined }],
    ['with an empty subject', { sub: '' }],
    ['with a subject that breaks lines', { sub: 'a\nb' }],
    ['with a subject too long', { sub: 'a'.repeat(256) }],
    ['without a role', { role: undefined }],
    ['with an unknown role', { role: 'root' }],
    ['with a role of another type', { role: { admin: true } }],
    ['with the name of a prototype as its role', { role: 'constructor' }],
  ])('%s is refused', async (_what, claims) => {
    expect(await codeOf(await signed(rsa, claims))).toBe('UNAUTHORIZED')
  })

  test.each<[string, Claims]>([
    ['with several audiences', { aud: ['other', AUDIENCE] }],
    ['that has expired, by a clock that is behind', { exp: now - 5 }],
    ['that is not valid yet, by a clock that is ahead', { nbf: now + 20 }],
    ['from the future, by a clock that is ahead', { iat: now + 20 }],
  ])('%s is taken', async (_what, claims) => {
    expect(await codeOf(await signed(rsa, claims))).toBe('taken')
  })

  test('whose expiry no clock reaches is refused', async () => {
    const payload = JSON.stringify(claimsOf()).replace(/"exp":\d+/, '"exp":1e999')
    const token = await new SignJWT({})
      .setProtectedHeader({ alg: 'RS256', kid: 'rsa-1' })
      .sign(rsa.privateKey)
    const input = `${token.split('.')[0]}.${Buffer.from(payload).toString('base64url')}`
    const { subtle } = globalThis.crypto
    const signature = await subtle.sign('RSASSA-PKCS1-v1_5', rsa.privateKey, Buffer.from(input))
    expect(await codeOf(`${input}.${Buffer.from(signature).toString('base64url')}`)).toBe('UNAUTHORIZED')
  })
})

describe('what only looks like one is refused', () => {
  test('unsigned', async () => {
    const token = new UnsecuredJWT(claimsOf()).encode()
    expect(issuer.accepts(token)).toBe(false)
    expect(await codeOf(token)).toBe('UNAUTHORIZED')
  })

  test.each(['pem', 'jwk'])('signed with the public key as a shared secret (%s)', async (form) => {
    const key = await importJWK(rsa.publicJwk, 'RS256', { extractable: true })
    const secret = form === 'pem' ? await exportSPKI(key as CryptoKey) : JSON.stringify(rsa.publicJwk)
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const input = `${part({ alg: 'HS256', kid: 'rsa-1' })}.${part(claimsOf())}`
    const token = `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`
    expect(issuer.accepts(token)).toBe(false)
    expect(await codeOf(token)).toBe('UNAUTHORIZED')
  })

  test('signed by somebody else under a known name', async () => {
    expect(await codeOf(await signed(stranger))).toBe('UNAUTHORIZED')
  })

  test('with an algorithm that is not the one of the key', async () => {
    const token = await new SignJWT(claimsOf()).setProtectedHeader({ alg: 'PS256', kid: 'rsa-1' }).sign(
      await globalThis.crypto.subtle
        .generateKey(
          {
            name: 'RSA-PSS',
            modulusLength: 2048,
            publicExponent: new Uint8Array([1, 0, 1]),
            hash: 'SHA-256',
          },
          true,
          ['sign', 'verify'],
        )
        .then(({ privateKey }) => privateKey),
    )
    expect(issuer.accepts(token)).toBe(false)
    expect(await codeOf(token)).toBe('UNAUTHORIZED')
  })

  test('with a key of its own in the header, which nobody looks at nor fetches', async () => {
    const trap = await jwksServer(() => [stranger.publicJwk])
    for (const header of [
      { jwk: stranger.publicJwk },
      { jku: trap.url },
      { x5u: trap.url },
      { x5c: ['AAAA'] },
      { kid: '../../etc/passwd' },
      { kid: "' OR 1=1 --" },
      { kid: '__proto__' },
      { crit: ['exp'], exp: 1 },
      { b64: false, crit: ['b64'] },
    ]) {
      const token = await signed(stranger, {}, header).catch(() => forged(header))
      expect(await codeOf(token), JSON.stringify(header)).toBe('UNAUTHORIZED')
    }
    expect(trap.requests).toBe(0)
  })

  test('with a critical header that is not known, although the signature is right', async () => {
    const [, payload] = (await signed(rsa)).split('.')
    const head = Buffer.from(JSON.stringify({ alg: 'RS256', kid: 'rsa-1', crit: ['x'], x: 1 })).toString(
      'base64url',
    )
    const { subtle } = globalThis.crypto
    const signature = await subtle.sign(
      'RSASSA-PKCS1-v1_5',
      rsa.privateKey,
      Buffer.from(`${head}.${payload}`),
    )
    const token = `${head}.${payload}.${Buffer.from(signature).toString('base64url')}`
    expect(await codeOf(token)).toBe('UNAUTHORIZED')
  })

  test('longer than any may be, before it is read', async () => {
    const token = await signed(rsa, { more: 'x'.repeat(8192) })
    expect(issuer.accepts(token)).toBe(false)
    expect(await codeOf(token)).toBe('UNAUTHORIZED')
  })
})

describe('claims become rights', () => {
  test('a role by any of the names the provider has for it, wherever it keeps them', async () => {
    const roleNames = new Map([
      ['ds-admins', 'admin'],
      ['staff', 'writer'],
    ] as const)
    const of = issuerOf({ role: 'realm.groups', roleNames })
    const roleOf = async (groups: unknown) =>
      (await of.authenticate(await signed(rsa, { role: 'admin', realm: { groups } }), 'read')).role
    expect(await roleOf(['all', 'staff'])).toBe('writer')
    expect(await roleOf(['staff', 'ds-admins'])).toBe('admin')
    expect(await roleOf('staff')).toBe('writer')
    for (const groups of ['admin', ['all'], [], [['staff']], null, {}])
      expect(await codeOf(await signed(rsa, { realm: { groups } }), of), JSON.stringify(groups)).toBe(
        'UNAUTHORIZED',
      )
  })

  test('a claim may be named by a URL', async () => {
    const of = issuerOf({ role: 'https://dualstore.example/role' })
    const token = await signed(rsa, { 'https://dualstore.example/role': 'writer' })
    expect((await of.authenticate(token, 'read')).role).toBe('writer')
  })

  test('scopes, and none without the claim', async () => {
    const of = issuerOf({ scopes: 'scope' })
    const scopesOf = async (scope: unknown) =>
      (await of.authenticate(await signed(rsa, { scope }), 'read')).scopes
    const expected = { read: ['notes', 'team_*'], write: ['notes'] }
    expect(await scopesOf('openid read:notes read:team_* write:notes')).toEqual(expected)
    expect(await scopesOf(['read:notes', 'openid', 'read:team_*', 'write:notes', 7])).toEqual(expected)
    expect(await scopesOf(undefined)).toEqual({ read: [], write: [] })
    expect(await scopesOf({ read: '*' })).toEqual({ read: [], write: [] })
  })

  test('documents, and no token without the claim', async () => {
    const of = issuerOf({ rows: 'rows' })
    for (const rows of [{ tenant: 't1' }, '{"tenant": "t1"}']) {
      const principal = await of.authenticate(await signed(rsa, { rows }), 'read')
      expect([{ tenant: 't1' }, { tenant: 't2' }].map((item) => matches(principal.rows, item))).toEqual([
        true,
        false,
      ])
    }
    for (const rows of [undefined, null, '{', { $where: '1' }, []])
      expect(await codeOf(await signed(rsa, { rows }), of), JSON.stringify(rows)).toBe('UNAUTHORIZED')
  })
})

describe('the keys of the issuer', () => {
  test('are read again for one that is new, once in a while', async () => {
    const of = issuerOf()
    published = [rsa]
    await of.authenticate(await signed(rsa), 'read')
    const before = jwks.requests
    for (let count = 0; count < 50; count++) {
      expect(await codeOf(await signed(latecomer, {}, { kid: `unknown-${count}` }), of)).toBe('UNAUTHORIZED')
    }
    expect(jwks.requests).toBe(before)
  })

  const cases: [string, RequestListener][] = [
    ['an error', (_request, response) => response.writeHead(500).end()],
    ['a redirect', (_request, response) => response.writeHead(302, { location: jwks.url }).end()],
    ['no JSON', (_request, response) => response.end('<html>')],
    ['no set of keys', (_request, response) => response.end('{"keys": {"a": 1}}')],
    ['null', (_request, response) => response.end('null')],
    ['keys that are none', (_request, response) => response.end('{"keys": [null, 1]}')],
    [
      'far too much',
      (_request, response) => void response.end(`{"keys": [], "x": "${'x'.repeat(1_000_000)}"}`),
    ],
    ['a connection that breaks', (_request, response) => void response.destroy()],
    ['nothing', () => {}],
  ]
  test.each(cases)(
    'that are answered with %s leave it open whether a token is valid',
    async (_what, answer) => {
      const of = issuerOf()
      jwks.answerWith(answer)
      const before = jwks.requests
      const began = performance.now()
      const codes = await Promise.all([codeOf(await signed(rsa), of), codeOf(await signed(ec), of)])
      expect(codes).toEqual(['ISSUER_UNAVAILABLE', 'ISSUER_UNAVAILABLE'])
      expect(performance.now() - began).toBeLessThan(6000)
      // The failure is remembered for a while: nobody waits for it again.
      for (let count = 0; count < 20; count++)
        expect(await codeOf(await signed(rsa), of)).toBe('ISSUER_UNAVAILABLE')
      expect(jwks.requests).toBe(before + 1)
      expect(failures).toHaveLength(1)
    },
  )

  test('that nobody serves leave it open, too, and not what is wrong without them', async () => {
    const gone = await jwksServer(() => [])
    await gone.close()
    const of = issuerOf({}, gone.url)
    for (const wrong of ['eyJhbGciOiJSUzI1NiJ9.x.', await signed(rsa, { iss: 'https://other.example' })])
      expect(await codeOf(wrong, of)).toBe('UNAUTHORIZED')
    expect(failures).toEqual([])
    expect(await codeOf(await signed(rsa), of)).toBe('ISSUER_UNAVAILABLE')
  })

  test('that are known do while they cannot be read', async () => {
    const of = issuerOf()
    await of.authenticate(await signed(rsa), 'read')
    jwks.answerWith((_request, response) => response.writeHead(500).end())
    expect(await codeOf(await signed(rsa, { sub: 'bob' }), of)).toBe('taken')
  })

  test('of a kind that may not sign are not used', async () => {
    const of = issuerOf()
    jwks.answerWith((_request, response) =>
      response.end(
        JSON.stringify({
          keys: [
            { ...rsa.publicJwk, use: 'enc' },
            { kty: 'oct', k: 'AAAA', kid: 'o' },
          ],
        }),
      ),
    )
    expect(await codeOf(await signed(rsa), of)).toBe('UNAUTHORIZED')
  })
})

/** A token with headers that a careful library would not write. */
function forged(header: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  return `${part({ alg: 'RS256', kid: 'rsa-1', ...header })}.${part(claimsOf())}.${'A'.repeat(342)}`
}

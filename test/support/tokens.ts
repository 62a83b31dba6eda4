import { createHmac } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { type JWTPayload, SignJWT } from 'jose'
import { expect } from 'vitest'
import type { Pool } from '../../src/server/db/pool.js'
import type { ServerOptions } from '../../src/server/index.js'
import type { KeyInput } from '../../src/server/schemas/key.js'
import { createKeyCache } from '../../src/server/services/key-cache.js'
import { createKeyUsage } from '../../src/server/services/key-usage.js'
import { createKeyService } from '../../src/server/services/keys.js'
import { localAccess } from '../../src/server/services/principal.js'
import { testDatabase } from './database.js'
import type { Answer } from './http.js'
import { callAs, withAuth } from './keys.js'
import { testServer } from './server.js'

/**
 * A server that asks for keys, and where they are made and revoked: by an instance of their own.
 * @param through What of the database's URL the server is given.
 */
export async function serverWithKeys(
  options: ServerOptions = {},
  through: (url: string) => Promise<string> = async (url) => url,
) {
  const { url, pool } = await testDatabase()
  const databaseUrl = await through(url)
  const settings: ServerOptions = { ...withAuth, databaseUrl, ...options }
  const keys = createKeyService({ pool, cache: createKeyCache({ pool }), usage: createKeyUsage(pool) })
  return {
    app: await testServer('embedded', settings),
    pool,
    /** Another instance on the same database. */
    another: () => testServer('embedded', settings),
    makeKey: (input: Partial<KeyInput> = {}) =>
      keys.create(localAccess, { name: 'of a test', role: 'admin', ...input }),
    revoke: (id: string) => keys.revoke(localAccess, id),
  }
}

/** Asks for a token with a key, or another token. */
export function askToken(app: FastifyInstance, credential: string, body?: unknown): Promise<Answer> {
  return callAs(app, credential, 'POST', '/api/v1/auth/token', { body })
}

/** The token itself; fails the test when there is none. */
export async function tokenOf(app: FastifyInstance, credential: string, body?: unknown): Promise<string> {
  const answer = await askToken(app, credential, body)
  expect(answer.status, answer.text).toBe(200)
  return answer.json.data.token
}

export interface Forgery {
  header?: Readonly<Record<string, unknown>>
  claims?: Readonly<Record<string, unknown>>
}

/** Makes tokens with the very secret of the database: what only a defect of this server, or a thief, could make. */
export async function forgerOf(pool: Pool) {
  const { rows } = await pool.query(
    'SELECT kid, secret FROM dualstore.token_secrets ORDER BY created_at DESC',
  )
  const [{ kid, secret }] = rows as [{ kid: string; secret: Buffer }]
  return ({ header = {}, claims = {} }: Forgery = {}): Promise<string> => {
    const now = Math.floor(Date.now() / 1000)
    const payload = {
      iss: 'dualstore',
      aud: 'dualstore',
      sub: 'key:forged',
      role: 'admin',
      scopes: { read: ['*'], write: ['*'] },
      rows: '{}',
      use: 'api',
      jti: 'forged',
      iat: now,
      exp: now + 300,
      ...claims,
    }
    return new SignJWT(payload as JWTPayload)
      .setProtectedHeader({ alg: 'HS256', typ: 'JWT', kid, ...header })
      .sign(secret)
  }
}

/** A token with any header, signed with any secret (HS256). */
export function signedBy(secret: string | Buffer, header: object, payload: object): string {
  return signedText(secret, JSON.stringify(header), JSON.stringify(payload))
}

/** The same of texts that no serialiser writes. */
export function signedText(secret: string | Buffer, header: string, payload: string): string {
  const input = [header, payload].map((text) => Buffer.from(text).toString('base64url')).join('.')
  return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`
}

import type { FastifyInstance } from 'fastify'
import { describe, expect, test } from 'vitest'
import { authIsOn, loadConfig } from '../../../src/server/config/index.js'
import type { ServerOptions } from '../../../src/server/index.js'
import { bodies, call, expectError } from '../../support/http.js'
import { testServer } from '../../support/server.js'

describe('the bearer token', () => {
  const routes = ['/', '/health', '/api/v1/agent_tasks', '/docs/json', '/debug/dualstore-data', '/nothing']

  const refused = ['Bearer wrong', 'Basic secret-1', 'secret-1', 'Bearer', 'Bearer secret-1 x']

  /** Every way the legacy server was told about a token. */
  const spellings: [string, NodeJS.ProcessEnv][] = [
    ['AUTH_ENABLED and AUTH_BEARER_TOKEN', { AUTH_ENABLED: 'true', AUTH_BEARER_TOKEN: 'secret-1' }],
    ['AUTH_ENABLED and BEARER_AUTH_KEY', { AUTH_ENABLED: 'TRUE', BEARER_AUTH_KEY: 'secret-1' }],
    ['AUTH_BEARER_TOKEN alone', { AUTH_BEARER_TOKEN: 'secret-1' }],
    ['BEARER_AUTH_KEY alone', { BEARER_AUTH_KEY: 'secret-1' }],
  ]
  test.each(spellings)('%s turn it on', (_name, env) => {
    const { config } = loadConfig({ env })
    expect([authIsOn(config), config.authBearerToken]).toEqual([true, 'secret-1'])
  })

  test('it covers every route with the legacy answers', async () => {
    const app = await withEnv({ BEARER_AUTH_KEY: 'secret-1' })
    for (const url of routes) {
      const missing = await call(app, 'GET', url)
      expect([missing.status, missing.json]).toEqual([401, { error: 'missing authorization header' }])
      for (const authorization of [...refused, '']) {
        const wrong = await call(app, 'GET', url, { headers: { authorization } })
        expect([wrong.status, wrong.json]).toEqual([401, { error: 'invalid authorization header' }])
      }
      const known = await call(app, 'GET', url, { headers: { authorization: 'Bearer secret-1' } })
      expect(known.status).toBe(url === '/nothing' ? 404 : 200)
    }
    const written = await call(app, 'POST', '/api/v1/agent_tasks', { body: bodies.agent_tasks })
    expect(written.status).toBe(401)
    expect((await call(app, 'GET', '/health/live?probe=1')).status).toBe(200)
  })

  test('AUTH_ENABLED=false is off', () => {
    expect(authIsOn(loadConfig({ env: { AUTH_ENABLED: 'false' } }).config)).toBe(false)
  })

  test('AUTH_ENABLED=true without a token asks for a key, with the usual answers', async () => {
    const app = await withEnv({ AUTH_ENABLED: 'true' })
    const missing = await call(app, 'GET', '/api/v1/agent_tasks')
    expectError(missing, 401, 'UNAUTHORIZED')
    expect(missing.json.error).toBe('missing authorization header')
    const wrong = await call(app, 'GET', '/nothing', { headers: { authorization: 'Bearer wrong' } })
    expectError(wrong, 401, 'UNAUTHORIZED')
    expect(wrong.json.error).toBe('invalid authorization header')
    expect([missing, wrong].map((answer) => answer.headers['www-authenticate'])).toEqual(['Bearer', 'Bearer'])
  })
})

describe('CORS', () => {
  const origin = 'https://app.example'
  const preflight = (app: FastifyInstance, from = origin) =>
    call(app, 'OPTIONS', '/api/v1/agent_tasks', {
      headers: {
        origin: from,
        'access-control-request-method': 'PATCH',
        'access-control-request-headers': 'if-match,content-type',
      },
    })

  test('* never comes with credentials (defect 8)', async () => {
    const app = await withEnv({ CORS_ORIGIN: '*', CORS_CREDENTIALS: 'true' })
    for (const answer of [await preflight(app), await call(app, 'GET', '/health', { headers: { origin } })]) {
      expect(answer.headers['access-control-allow-origin']).toBe('*')
      expect(answer.headers['access-control-allow-credentials']).toBeUndefined()
    }
  })

  test('listed origins get credentials, others nothing', async () => {
    const app = await withEnv({ CORS_ORIGIN: `https://other.example, ${origin}` })
    const answer = await preflight(app)
    expect(answer.headers['access-control-allow-origin']).toBe(origin)
    expect(answer.headers['access-control-allow-credentials']).toBe('true')
    expect(answer.headers['access-control-allow-methods']).toContain('PATCH')
    expect(answer.headers['access-control-allow-headers']).toContain('if-match')
    expect((await preflight(app, 'https://evil.example')).headers['access-control-allow-origin']).not.toBe(
      'https://evil.example',
    )
  })

  test('CORS_CREDENTIALS=false is false (defect 8)', async () => {
    const app = await withEnv({ CORS_ORIGIN: origin, CORS_CREDENTIALS: 'false' })
    expect((await preflight(app)).headers['access-control-allow-credentials']).toBeUndefined()
  })
})

describe('errors of the server', () => {
  test.each(['production', 'development'])(
    'a 500 tells its message only in development: %s',
    async (nodeEnv) => {
      const app = await testServer('embedded', { nodeEnv }, (instance) =>
        instance.get('/broken', async () => {
          throw new Error('the inside')
        }),
      )
      const answer = await call(app, 'GET', '/broken')
      expect(answer.status).toBe(500)
      expect(answer.json).toEqual({
        success: false,
        error: 'Internal server error',
        code: 'INTERNAL',
        requestId: expect.any(String),
        ...(nodeEnv === 'development' && { message: 'the inside' }),
      })
    },
  )
})

/** A server that reads its settings from these variables, as the program does. */
async function withEnv(env: NodeJS.ProcessEnv): Promise<FastifyInstance> {
  const { config } = loadConfig({ env })
  const { authEnabled, authBearerToken, corsOrigin, corsCredentials } = config
  const options: ServerOptions = {
    authEnabled,
    corsOrigin,
    corsCredentials,
    ...(authBearerToken !== undefined && { authBearerToken }),
  }
  return testServer('embedded', options)
}

test('every answer carries the security headers, errors included', async () => {
  const app = await testServer('embedded', { authBearerToken: 'secret' })
  const authorization = 'Bearer secret'
  for (const [url, headers, status] of [
    ['/', { authorization }, 200],
    ['/nowhere', { authorization }, 404],
    ['/', {}, 401],
  ] as const) {
    const answer = await app.inject({ url, headers })
    expect(answer.statusCode).toBe(status)
    expect(answer.headers).toMatchObject({
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'SAMEORIGIN',
      'referrer-policy': 'no-referrer',
      'strict-transport-security': expect.stringContaining('max-age='),
    })
  }
})

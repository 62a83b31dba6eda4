import { Writable } from 'node:stream'
import Fastify from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import { loadConfig, requireSafeConfig } from '../../../src/server/config/index.js'
import { formatKey, newKeyId, newSecret, parseKey } from '../../../src/server/services/key-format.js'
import { createLogger } from '../../../src/server/start.js'
import { testDatabase } from '../../support/database.js'
import { dataDirectory } from '../../support/directory.js'
import { bodies, call, expectError } from '../../support/http.js'
import { bearer, callAs, makeKey } from '../../support/keys.js'
import { startProgram } from '../../support/process.js'
import { testServer } from '../../support/server.js'

const TASKS = '/api/v1/agent_tasks'

describe('the legacy token beside keys', () => {
  let app: Awaited<ReturnType<typeof testServer>>
  beforeAll(async () => {
    app = await testServer('embedded', { authBearerToken: 'legacy-secret', dualWriteEnabled: false })
  })

  test('is for everything, the first key too', async () => {
    const { key } = await makeKey(app, 'legacy-secret', { role: 'reader' })
    expect((await callAs(app, key, 'GET', TASKS)).status).toBe(200)
    const audit = await callAs(app, 'legacy-secret', 'GET', '/api/v1/audit')
    expect(audit.json.data[0]).toMatchObject({ action: 'key.create', actor: 'legacy', key_id: null })
  })

  test('keeps the legacy bodies of 401, also for keys; what a key may not do has the usual one', async () => {
    const { key, id } = await makeKey(app, 'legacy-secret', { role: 'reader' })
    expectError(await callAs(app, key, 'POST', TASKS, { body: bodies.agent_tasks }), 403, 'FORBIDDEN')
    await callAs(app, 'legacy-secret', 'DELETE', `/api/v1/keys/${id}`)
    for (const text of [key, 'legacy-secre', 'legacy-secretx', formatKey({ id, secret: newSecret() })]) {
      const answer = await callAs(app, text, 'GET', TASKS)
      expect([answer.status, answer.json]).toEqual([401, { error: 'invalid authorization header' }])
    }
    const missing = await call(app, 'GET', TASKS)
    expect([missing.status, missing.json]).toEqual([401, { error: 'missing authorization header' }])
    expect(missing.headers['www-authenticate']).toBe('Bearer')
  })
})

describe('an address that others can reach', () => {
  const config = (env: NodeJS.ProcessEnv) => loadConfig({ env }).config

  test.each([
    ['any address', { HOST: '0.0.0.0' }],
    ['any address of IPv6', { HOST: '::' }],
    ['a name', { HOST: 'db.example' }],
    ['what only begins like a loopback address', { HOST: '127.0.0.1.example' }],
    ['any address, with authentication switched off', { HOST: '0.0.0.0', AUTH_ENABLED: 'false' }],
    [
      'any address, with a token that is switched off',
      { HOST: '0.0.0.0', AUTH_ENABLED: 'false', AUTH_BEARER_TOKEN: 'x' },
    ],
  ])('is not served without authentication: %s', (_what, env) => {
    expect(() => requireSafeConfig(config(env))).toThrow(/--insecure-no-auth/)
  })

  test.each([
    ['a loopback address', {}],
    ['another loopback address', { HOST: '127.1.2.3' }],
    ['localhost', { HOST: 'localhost' }],
    ['keys', { HOST: '0.0.0.0', AUTH_ENABLED: 'true' }],
    ['the legacy token', { HOST: '0.0.0.0', BEARER_AUTH_KEY: 'x' }],
    ['being told to', { HOST: '0.0.0.0', DUALSTORE_INSECURE_NO_AUTH: 'true' }],
  ])('is served with %s', (_what, env) => {
    expect(() => requireSafeConfig(config(env))).not.toThrow()
  })

  test('is refused by the program with exit code 2, before anything is opened', async () => {
    const refused = startProgram({
      flags: ['--host', '0.0.0.0'],
      env: { DATABASE_URL: 'postgresql://nowhere/x' },
    })
    await expect(refused).rejects.toThrow(/ended before it was ready \(2\)[\s\S]*--insecure-no-auth/)
  })
})

describe('a server says at its start whether anybody may call it', () => {
  test.each([
    ['that it is off', {}, /authentication is off/],
    ['that there is no key yet', { AUTH_ENABLED: 'true' }, /dualstore keys create --role admin --name first/],
    ['that the legacy token is deprecated', { AUTH_BEARER_TOKEN: 'hidden-token' }, /deprecated/],
  ])('%s', async (_what, env, line) => {
    const { url } = await testDatabase()
    const program = await startProgram({
      env: {
        DATABASE_URL: url,
        DUALSTORE_DATA_DIR: await dataDirectory(),
        DUAL_WRITE_ENABLED: 'false',
        ...env,
      },
      until: 'listening',
    })
    await program.stop()
    const warnings = program.logs().filter(({ level }) => level === 40)
    expect(warnings.filter(({ msg }) => line.test(String(msg)))).toHaveLength(1)
    expect(program.stdout() + program.stderr()).not.toContain('hidden-token')
  })
})

test('while nobody needs a key, pages of other origins make none; its own and programs may', async () => {
  const app = await testServer('embedded', { dualWriteEnabled: false })
  const make = (headers: Record<string, string>) =>
    call(app, 'POST', '/api/v1/keys', { headers, body: { name: 'first', role: 'admin' } })
  for (const origin of ['https://evil.example', 'null']) {
    expectError(await make({ origin, host: '127.0.0.1:3000' }), 403, 'FORBIDDEN')
    expect((await call(app, 'GET', TASKS, { headers: { origin } })).status).toBe(200)
  }
  expect((await make({ origin: 'http://127.0.0.1:3000', host: '127.0.0.1:3000' })).status).toBe(201)
  expect((await make({})).status).toBe(201)
})

test('no secret reaches the log, wherever a client or a programmer puts it', async () => {
  const lines: string[] = []
  const stream = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk))
      done()
    },
  })
  const { config } = loadConfig({ given: { logLevel: 'trace' } })
  const logger = createLogger(config, stream)
  const key = formatKey({ id: newKeyId(), secret: newSecret() })
  logger.info({ req: { headers: { ...bearer(key), 'x-api-key': key, cookie: key } } }, 'headers')
  logger.info(
    { req: { headers: { authorization: 'Bearer legacy-token', 'x-api-key': 'legacy-token' } } },
    'x',
  )
  logger.error({ err: new Error(`cannot use ${key}`) }, `in the message: ${key}`)
  logger.child({ bound: key }).warn({ deep: { er: [key] } }, 'bound and nested')

  // The server's own lines: paths, query strings, failures.
  const app = Fastify({ loggerInstance: logger })
  app.get('/fails', async () => {
    throw new Error(`the inside of ${key}`)
  })
  for (const url of [`/${key}`, `/fails?key=${key}`]) {
    await app.inject({ url, headers: { ...bearer(key), 'x-api-key': key } })
  }
  await app.close()
  const text = lines.join('')
  expect(lines.length).toBeGreaterThan(8)
  expect(text).toContain(`dsk_${parseKey(key)?.id}_***`)
  expect(text).not.toContain(parseKey(key)?.secret)
  expect(text).not.toContain('legacy-token')
})

test('no secret comes back in an error', async () => {
  const app = await testServer('embedded', { dualWriteEnabled: false })
  const key = formatKey({ id: newKeyId(), secret: newSecret() })
  const asked: [string, string, object?][] = [
    ['GET', `/${key}`],
    ['GET', `/api/v1/${key}`],
    ['GET', `/api/v1/agent_tasks/${key}?filter={"${key}":{"$bad":1}}`],
    ['GET', `/api/v1/keys/${key}`],
    ['POST', '/api/v1/keys', { name: 'a', role: 'reader', [key]: 1 }],
    ['POST', '/api/v1/agent_tasks', { status: key }],
  ]
  for (const [method, url, body] of asked) {
    const answer = await call(app, method, encodeURI(url), { ...(body && { body }) })
    expect(answer.status, url).toBeGreaterThanOrEqual(400)
    expect(answer.text).not.toContain(parseKey(key)?.secret)
  }
})

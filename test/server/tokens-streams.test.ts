import { Writable } from 'node:stream'
import { beforeAll, describe, expect, test } from 'vitest'
import { loadConfig } from '../../src/server/config/index.js'
import { createApp, createLogger } from '../../src/server/start.js'
import { testDatabase } from '../support/database.js'
import { ofType, openStream, type TestStream } from '../support/event-stream.js'
import { bodies, call, withQuery } from '../support/http.js'
import { bearer } from '../support/keys.js'
import { atEndOfFile } from '../support/leaks.js'
import { serverWithKeys, tokenOf } from '../support/tokens.js'

const { app, makeKey, revoke } = await serverWithKeys({ tokenClockSkewMs: 0, sseHeartbeatInterval: 100 })
const admin = await makeKey()
const stream = '/api/v1/stream/agent_tasks'
const wish = { for: 'stream', collection: 'agent_tasks' }
let base: string

beforeAll(async () => {
  base = await app.listen({ host: '127.0.0.1', port: 0 })
})
const open = (token: string, url = stream, headers: Record<string, string> = {}) =>
  openStream(base + withQuery(url, { access_token: token }), headers)
const post = (collection: string) =>
  call(app, 'POST', `/api/v1/${collection}`, {
    headers: bearer(admin.key),
    body: bodies[collection] ?? {},
  })
const refusal = ({ status, body }: TestStream) => [status, JSON.parse(body).code]

describe('a token for a stream', () => {
  test('opens it from the query', async () => {
    const opened = await open(await tokenOf(app, admin.key, wish))
    expect(opened.status).toBe(200)
    await opened.until(ofType('connection'))
    await post('agent_tasks')
    expect((await opened.until(ofType('insert'))).data.collection).toBe('agent_tasks')
    opened.close()
  })

  test('opens that of its collection alone', async () => {
    const token = await tokenOf(app, admin.key, wish)
    expect(refusal(await open(token, '/api/v1/stream/session_messages'))).toEqual([403, 'FORBIDDEN'])
    const both = withQuery('/api/v1/stream', {
      access_token: token,
      collections: 'agent_tasks,session_messages',
    })
    expect(refusal(await openStream(base + both))).toEqual([403, 'FORBIDDEN'])
  })

  test('sees of all collections its own', async () => {
    const opened = await open(await tokenOf(app, admin.key, wish), '/api/v1/stream')
    await opened.until(ofType('connection'))
    await post('session_messages')
    await post('agent_tasks')
    await opened.until(({ data }) => data.collection === 'agent_tasks')
    expect(opened.changes().map(({ data }) => data.collection)).toEqual(['agent_tasks'])
    opened.close()
  })

  test('sees what its filter passes', async () => {
    const opened = await open(await tokenOf(app, admin.key, { ...wish, filter: { agent_id: 'a1' } }))
    await opened.until(ofType('connection'))
    const other = { ...bodies.agent_tasks, agent_id: 'a2' }
    await call(app, 'POST', '/api/v1/agent_tasks', { headers: bearer(admin.key), body: other })
    await post('agent_tasks')
    expect((await opened.until(ofType('insert'))).data.data.agent_id).toBe('a1')
    opened.close()
  })

  test('is taken nowhere else, and nothing else in its place', async () => {
    const token = await tokenOf(app, admin.key, wish)
    const unauthorized = [401, 'UNAUTHORIZED']
    expect(refusal(await openStream(base + stream, bearer(token)))).toEqual(unauthorized)
    expect((await call(app, 'GET', '/api/v1/agent_tasks', { headers: bearer(token) })).status).toBe(401)
    for (const wrong of [await tokenOf(app, admin.key), admin.key, 'wrong', '', 'x'.repeat(9000)])
      expect(refusal(await open(wrong)), wrong).toEqual(unauthorized)
    const bad = [400, 'INVALID_REQUEST']
    expect(refusal(await open(token, stream, bearer(admin.key)))).toEqual(bad)
    expect(refusal(await openStream(`${base}${stream}?access_token=${token}&access_token=${token}`))).toEqual(
      bad,
    )
  })

  test('expires, which ends no stream that is open', async () => {
    const token = await tokenOf(app, admin.key, { ...wish, expires_in: 3 })
    const opened = await open(token)
    await opened.until(
      ({ data }) => data.type === 'heartbeat' && Date.parse(data.timestamp) > issuedAt(token) + 3100,
    )
    expect(refusal(await open(token))).toEqual([401, 'UNAUTHORIZED'])
    await post('agent_tasks')
    await opened.until(ofType('insert'))
    opened.close()
  })
})

describe('an open stream', () => {
  test('ends when its key is revoked, however it was opened; others stay', async () => {
    const { key, id } = await makeKey({ role: 'reader' })
    const streams = [
      await open(await tokenOf(app, key, wish)),
      await openStream(base + stream, bearer(await tokenOf(app, key))),
      await openStream(base + stream, bearer(key)),
    ]
    const other = await open(await tokenOf(app, admin.key, wish))
    for (const one of [...streams, other]) await one.until(ofType('connection'))
    await revoke(id)
    const revokedAt = performance.now()
    for (const one of streams) {
      expect((await one.until(ofType('close'))).data.data).toMatchObject({ reason: 'unauthorized' })
      await one.ended
    }
    expect(performance.now() - revokedAt).toBeLessThan(2000)
    await post('agent_tasks')
    await other.until(ofType('insert'))
    other.close()
  })

  test('ends with the token that it was opened with in a header', async () => {
    const token = await tokenOf(app, admin.key, { expires_in: 3 })
    const opened = await openStream(base + stream, bearer(token))
    const { data } = (await opened.until(ofType('close'))).data
    expect(data).toMatchObject({ reason: 'unauthorized', position: expect.any(String) })
    await opened.ended
  })

  test('ends with the token that its own token was made of', async () => {
    const short = await tokenOf(app, admin.key, { expires_in: 4 })
    const opened = await open(await tokenOf(app, short, wish))
    await opened.until(ofType('close'))
    await opened.ended
  })
})

test('no token is ever logged, at no level, whatever is wrong with the request', async () => {
  const lines: string[] = []
  const destination = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk))
      done()
    },
  })
  const { url: databaseUrl } = await testDatabase()
  const { config } = loadConfig({ given: { databaseUrl, logLevel: 'trace', authEnabled: true }, env: {} })
  const logged = await createApp(config, createLogger(config, destination))
  const token = await tokenOf(app, admin.key, wish)
  atEndOfFile(() => logged.close())
  await logged.listen({ host: '127.0.0.1', port: 0 })

  const secret = 'this.is-a-secret'
  const queries = [
    `access_token=${token}`,
    `format=message&access_token=${token}&from=now`,
    `%61ccess_token=${token}`,
    `access%5Ftoken=${token}`,
    `access_token=${token.replaceAll('.', '%2E')}`,
    `access_token=${encodeURIComponent(secret)}`,
    `access_token=${secret}&access_token=${secret}`,
    `access_token=%ff${secret}`,
    `access_token=${secret}&format=wrong`,
  ]
  for (const path of [stream, '/api/v1/agent_tasks', '/nowhere', '/api/v1/stream/%ff', '/api/v1/%zz']) {
    for (const query of queries) {
      for (const headers of [{}, bearer(token), { 'x-api-key': token }]) {
        const { body } = await logged.inject({ url: `${path}?${query}`, headers })
        expect(body).not.toContain(token)
        expect(body).not.toContain(secret)
      }
    }
  }
  await logged.inject({ url: `/api/v1/agent_tasks/${token}` })
  const text = lines.join('')
  expect(text).toContain('/api/v1/stream/agent_tasks?access_token=***')
  expect(text).toContain('format=message&access_token=***&from=now')
  for (const part of [token, ...token.split('.'), secret]) expect(text).not.toContain(part)
})

function issuedAt(token: string): number {
  return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()).iat * 1000
}

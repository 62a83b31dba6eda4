import type { FastifyInstance, InjectOptions } from 'fastify'
import { Redis } from 'ioredis'
import { describe, expect, test } from 'vitest'
import type { ServerOptions } from '../../../src/server/index.js'
import { freeze } from '../../support/freeze.js'
import { type Answer, bodies, call, expectError } from '../../support/http.js'
import { atEndOfFile } from '../../support/leaks.js'
import { redisIsAvailable, startRedis } from '../../support/redis.js'
import { testServer } from '../../support/server.js'

const TASKS = '/api/v1/agent_tasks'
const read = (app: FastifyInstance, headers = {}) =>
  call(app, 'GET', `${TASKS}?limit=1&count=none`, { headers })
const write = (app: FastifyInstance, headers = {}) =>
  call(app, 'POST', TASKS, { headers, body: bodies.agent_tasks })

async function statuses(times: number, ask: () => Promise<Answer>): Promise<number[]> {
  const found: number[] = []
  for (let count = 0; count < times; count++) found.push((await ask()).status)
  return found
}

/** A request as it comes from an address, through the proxies named. */
async function from(app: FastifyInstance, peer: string, forwarded?: string): Promise<Answer> {
  const request: InjectOptions = {
    url: `${TASKS}?limit=1`,
    remoteAddress: peer,
    headers: forwarded === undefined ? {} : { 'x-forwarded-for': forwarded },
  }
  const answer = await app.inject(request)
  return {
    status: answer.statusCode,
    headers: answer.headers as Answer['headers'],
    text: answer.body,
    json: undefined,
  }
}

async function key(app: FastifyInstance, admin: string, role = 'writer'): Promise<string> {
  const made = await call(app, 'POST', '/api/v1/keys', {
    headers: { authorization: `Bearer ${admin}` },
    body: { name: 'limits', role },
  })
  expect(made.status, made.text).toBe(201)
  return made.json.data.key
}

test('without settings nothing is limited, and no header says otherwise', async () => {
  const app = await testServer()
  for (const answer of [await read(app), await write(app)]) {
    expect(answer.status).toBeLessThan(300)
    expect(Object.keys(answer.headers).filter((name) => name.includes('ratelimit'))).toEqual([])
  }
})

test('the legacy limit counts everything of an address together, and health is never limited', async () => {
  const app = await testServer('embedded', { rateLimitMaxRequests: 4, rateLimitWindowMs: 60_000 })
  const first = await read(app)
  expect(first.headers).toMatchObject({
    'ratelimit-limit': '4',
    'ratelimit-remaining': '3',
    'ratelimit-reset': '60',
  })
  expect((await write(app)).headers['ratelimit-remaining']).toBe('2')
  // A path without a route is a request too.
  expect((await call(app, 'GET', '/nothing')).headers['ratelimit-remaining']).toBe('1')
  expect((await read(app)).status).toBe(200)
  const refused = await read(app)
  expectError(refused, 429, 'TOO_MANY_REQUESTS')
  expect(refused.headers['ratelimit-remaining']).toBe('0')
  expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0)
  expect((await write(app)).status).toBe(429)
  for (const url of ['/health', '/health/live', '/health/ready'])
    expect(await statuses(10, () => call(app, 'GET', url))).toEqual(Array(10).fill(200))
  expect((await call(app, 'GET', '/healthy')).status).toBe(429)
})

test('reading and writing have budgets of their own when they are given', async () => {
  const app = await testServer('embedded', { rateLimitReadMaxRequests: 3, rateLimitWriteMaxRequests: 2 })
  expect(await statuses(4, () => read(app))).toEqual([200, 200, 200, 429])
  expect(await statuses(3, () => write(app))).toEqual([201, 201, 429])
})

test('the window ends', async () => {
  const app = await testServer('embedded', { rateLimitReadMaxRequests: 1, rateLimitWindowMs: 1000 })
  expect(await statuses(2, () => read(app))).toEqual([200, 429])
  await expect.poll(async () => (await read(app)).status, { timeout: 10_000, interval: 100 }).toBe(200)
})

test('each key is counted for itself, and addresses of an IPv6 network together', async () => {
  const app = await testServer('embedded', { authBearerToken: 'legacy-admin', rateLimitReadMaxRequests: 2 })
  const [one, other] = [await key(app, 'legacy-admin'), await key(app, 'legacy-admin')]
  for (const text of [one, other]) {
    const headers = { authorization: `Bearer ${text}` }
    expect(await statuses(3, () => read(app, headers))).toEqual([200, 200, 429])
  }
  const open = await testServer('embedded', { rateLimitReadMaxRequests: 2 })
  const peers = ['2001:db8::1', '2001:db8::2', '2001:db8:0:0:ffff::3', '2001:db8:0:1::1', '::ffff:10.0.0.1']
  const found: number[] = []
  for (const peer of peers) found.push((await from(open, peer)).status)
  expect(found).toEqual([200, 200, 429, 200, 200])
})

test('who is refused for lack of rights is counted', async () => {
  const app = await testServer('embedded', { authBearerToken: 'legacy-admin', rateLimitWriteMaxRequests: 2 })
  const headers = { authorization: `Bearer ${await key(app, 'legacy-admin', 'reader')}` }
  expect(await statuses(3, () => write(app, headers))).toEqual([403, 403, 429])
})

test('requests for tokens have a budget of their own, by address and not by key', async () => {
  const app = await testServer('embedded', { authBearerToken: 'legacy-admin', authAttemptsPerMinute: 3 })
  const keys = [await key(app, 'legacy-admin'), await key(app, 'legacy-admin')]
  let turn = 0
  const ask = () => {
    const headers = { authorization: `Bearer ${keys[turn++ % keys.length]}` }
    return call(app, 'POST', '/api/v1/auth/token', { headers, body: {} })
  }
  const found = await statuses(4, ask)
  expect(
    found.slice(0, 3).every((status) => status < 300),
    String(found),
  ).toBe(true)
  expect(found[3]).toBe(429)
  expect((await read(app, { authorization: `Bearer ${keys[0]}` })).status).toBe(200)
})

describe('an address', () => {
  const limited = (trustProxy: ServerOptions['trustProxy']) =>
    testServer('embedded', { rateLimitReadMaxRequests: 1, ...(trustProxy !== undefined && { trustProxy }) })
  /** Whether the second request is counted with the first. */
  const together = async (app: FastifyInstance, one: [string, string?], two: [string, string?]) => {
    expect((await from(app, ...one)).status).toBe(200)
    return (await from(app, ...two)).status === 429
  }

  test('cannot be chosen by whoever is not a trusted proxy', async () => {
    for (const setting of [false, ['10.0.0.1', '192.168.0.0/16']] as const) {
      const app = await limited(setting)
      expect(await together(app, ['203.0.113.7', '1.1.1.1'], ['203.0.113.7', '2.2.2.2'])).toBe(true)
    }
  })

  test('is the last one that a trusted proxy did not write', async () => {
    const app = await limited(['10.0.0.1', '192.168.0.0/16', '::1'])
    expect(await together(app, ['10.0.0.1', '198.51.100.1'], ['10.0.0.1', '198.51.100.2'])).toBe(false)
    // What the client sends itself stands in front of what the proxy adds.
    expect((await from(app, '10.0.0.1', '9.9.9.9, 198.51.100.1')).status).toBe(429)
    expect((await from(app, '10.0.0.1', '8.8.8.8, 198.51.100.1, 192.168.3.4')).status).toBe(429)
    expect((await from(app, '::1', '198.51.100.2')).status).toBe(429)
    expect((await from(app, '::1', '198.51.100.3')).status).toBe(200)
  })

  test('is so many hops away', async () => {
    const app = await limited(1)
    expect(
      await together(app, ['10.0.0.1', '5.5.5.5, 198.51.100.1'], ['10.0.0.2', '6.6.6.6, 198.51.100.1']),
    ).toBe(true)
  })

  test('that is none counts as the proxy that gave it', async () => {
    const app = await limited(['10.0.0.1'])
    expect(await together(app, ['10.0.0.1', 'x'.repeat(5000)], ['10.0.0.1', '<script>'])).toBe(true)
  })
})

describe('wrong credentials', () => {
  const wrong = (n: number) => ({ authorization: `Bearer dsk_${String(n).padStart(16, '0')}_wrong` })

  test('make the address wait before another is looked at; the right one that was just used goes on', async () => {
    const app = await testServer('embedded', { authBearerToken: 'the-right-token', authAttemptsPerMinute: 5 })
    const right = { authorization: 'Bearer the-right-token' }
    expect((await read(app, right)).status).toBe(200)
    let n = 0
    expect(await statuses(7, () => read(app, wrong(n++)))).toEqual([401, 401, 401, 401, 401, 429, 429])
    const refused = await read(app, wrong(n))
    expectError(refused, 429, 'TOO_MANY_REQUESTS')
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0)
    expect((await read(app, right)).status).toBe(200)
    expect((await call(app, 'GET', '/health/live')).status).toBe(200)
    const elsewhere = await app.inject({ url: '/health', remoteAddress: '10.9.9.9', headers: right })
    expect(elsewhere.statusCode).toBe(200)
  })

  test('the right one tells nothing while its address waits, when it was not used from there', async () => {
    const app = await testServer('embedded', { authBearerToken: 'the-right-token', authAttemptsPerMinute: 2 })
    let n = 0
    expect(await statuses(2, () => read(app, wrong(n++)))).toEqual([401, 401])
    expect((await read(app, wrong(n))).status).toBe(429)
    expect((await read(app, { authorization: 'Bearer the-right-token' })).status).toBe(429)
  })

  test('a missing one is no guess', async () => {
    const app = await testServer('embedded', { authBearerToken: 'the-right-token', authAttemptsPerMinute: 2 })
    expect(await statuses(5, () => read(app))).toEqual([401, 401, 401, 401, 401])
    expect((await read(app, { authorization: 'Bearer the-right-token' })).status).toBe(200)
  })
})

describe.skipIf(!(await redisIsAvailable()))('with Redis', () => {
  test('instances count together, and go on alone while it is away', async () => {
    const redis = await startRedis()
    atEndOfFile(() => redis.stop())
    const options = {
      redisUrl: redis.url,
      redisTimeoutMs: 5000,
      rateLimitReadMaxRequests: 4,
      rateLimitWindowMs: 600_000,
    }
    const [one, two] = [await testServer('embedded', options), await testServer('embedded', options)]
    const look = new Redis(redis.url)
    await expect
      .poll(async () => (await look.client('LIST')) as string, { timeout: 10_000 })
      .toMatch(/(id=.*\n){3}/)
    expect(await statuses(2, () => read(one))).toEqual([200, 200])
    expect(await statuses(3, () => read(two))).toEqual([200, 200, 429])
    expect((await read(one)).status).toBe(429)
    const [name = ''] = await look.keys('*')
    expect(await look.pttl(name)).toBeGreaterThan(0)
    look.disconnect()

    await redis.kill9()
    const alone: number[] = []
    for (const app of [one, two]) alone.push(...(await statuses(5, () => read(app))))
    expect(alone).toEqual([200, 200, 200, 200, 429, 200, 200, 200, 200, 429])

    await redis.restart()
    // Counted there anew, from nothing.
    await expect
      .poll(async () => (await read(one)).headers['ratelimit-remaining'], { timeout: 20_000, interval: 200 })
      .not.toBe('0')
  })

  test('one that hangs holds a request up no longer than its time limit', async () => {
    const redis = await startRedis()
    atEndOfFile(() => redis.stop())
    const app = await testServer('embedded', {
      redisUrl: redis.url,
      redisTimeoutMs: 50,
      rateLimitReadMaxRequests: 1000,
    })
    await expect
      .poll(async () => {
        await read(app)
        const look = new Redis(redis.url)
        const keys = await look.keys('*')
        look.disconnect()
        return keys.length
      })
      .toBe(1)
    await freeze(redis.pid)
    const started = performance.now()
    expect(await statuses(20, () => read(app))).toEqual(Array(20).fill(200))
    // Twenty times the limit would be one second of waiting alone, and the driver's own is ten.
    expect(performance.now() - started).toBeLessThan(8000)
    process.kill(redis.pid, 'SIGCONT')
  })

  test('one that is not there keeps nobody from starting or being served', async () => {
    const app = await testServer('embedded', { redisUrl: 'redis://127.0.0.1:1', rateLimitReadMaxRequests: 1 })
    expect(await statuses(2, () => read(app))).toEqual([200, 429])
  })
})

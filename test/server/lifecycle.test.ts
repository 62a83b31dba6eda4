import { request } from 'node:http'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../support/database.js'
import { dataDirectory } from '../support/directory.js'
import { until } from '../support/follower.js'
import { holdWrites } from '../support/hold.js'
import { atEndOfFile } from '../support/leaks.js'
import { serverIsAvailable, startMongo } from '../support/mongo.js'
import type { Program, ProgramOptions } from '../support/process.js'
import { type StoreProxy, startProxy } from '../support/proxy.js'
import { startServer } from '../support/serve.js'

let database: TestDatabase
let programs: Program[] = []

beforeEach(async () => {
  database = await createDatabase()
})
afterEach(async () => {
  for (const program of programs) {
    program.signal('SIGCONT')
    await program.kill9()
  }
  programs = []
  await database.close()
})

/** A server on this test's database, with an embedded mirror of its own unless told otherwise. */
async function serve(
  env: Record<string, string> = {},
  options: Partial<ProgramOptions> = {},
): Promise<Program> {
  const dataDir = env.DUALSTORE_DATA_DIR ?? (await dataDirectory())
  const program = await startServer(
    { DATABASE_URL: database.url, DUALSTORE_DATA_DIR: dataDir, ...env },
    { timeoutMs: 25_000, ...options },
  )
  programs.push(program)
  return program
}

const call = (url: string, path: string, init: RequestInit = {}) =>
  fetch(`${url}${path}`, {
    ...init,
    headers: {
      connection: 'close',
      ...(init.body && { 'content-type': 'application/json' }),
      ...init.headers,
    },
  })
const create = (url: string, id: string, headers: Record<string, string> = {}) =>
  call(url, '/api/v1/session_messages', {
    method: 'POST',
    headers,
    body: JSON.stringify({ id, session_id: 's', role: 'user', content: id }),
  })
/** A create of which the server has said that it has taken it: before that, a connection may be closed as idle. */
function createInFlight(url: string, id: string): { taken: Promise<void>; status: Promise<number> } {
  const body = JSON.stringify({ id, session_id: 's', role: 'user', content: id })
  const headers = {
    'content-type': 'application/json',
    'content-length': body.length,
    expect: '100-continue',
  }
  const sending = request(`${url}/api/v1/session_messages`, { method: 'POST', headers, agent: false })
  sending.flushHeaders()
  return {
    taken: new Promise((resolve) => {
      sending.once('continue', () => sending.end(body, resolve))
    }),
    status: new Promise((resolve, reject) => {
      sending.once('error', reject)
      sending.once('response', (response) => {
        response.resume().once('end', () => resolve(response.statusCode ?? 0))
      })
    }),
  }
}
const ready = async (url: string) => {
  const answer = await call(url, '/health/ready')
  return { status: answer.status, checks: ((await answer.json()) as { checks: Checks }).checks }
}
interface Checks {
  postgres: { ok: boolean; reason?: string }
  mirror: { ok: boolean; position: number; lag: number }
}

describe('shutdown', () => {
  test('SIGTERM: 50 requests in flight are all answered, and the exit is 0', async () => {
    const server = await serve()
    const hold = await holdWrites(database.url)
    const requests = Array.from({ length: 50 }, (_, index) => createInFlight(server.url, `m${index}`))
    await Promise.all(requests.map(({ taken }) => taken))
    await until(async () => (await hold.waiting()) > 0)
    server.signal('SIGTERM')
    await until(() => server.logs().some(({ msg }) => msg === 'closing'))
    await hold.letGo()
    expect(await Promise.all(requests.map(({ status }) => status))).toEqual(Array(50).fill(201))
    expect(await server.exit).toEqual({ code: 0, signal: undefined })
    const { rows } = await database.pool.query('SELECT count(*) AS count FROM dualstore.documents')
    expect(rows).toEqual([{ count: 50 }])
  })

  test('a second signal ends it at once, and not with success', async () => {
    const server = await serve()
    const hold = await holdWrites(database.url)
    const answer = create(server.url, 'held').catch(() => undefined)
    await until(async () => (await hold.waiting()) > 0)
    server.signal('SIGTERM')
    await until(() => server.logs().some(({ msg }) => msg === 'closing'))
    const asked = performance.now()
    server.signal('SIGTERM')
    const { code } = await server.exit
    expect(code).toBeGreaterThan(0)
    expect(performance.now() - asked).toBeLessThan(5000)
    await hold.letGo()
    await answer
  })

  test('a request that outlasts the grace period does not: the exit is in time, and not with success', async () => {
    const server = await serve({ DUALSTORE_SHUTDOWN_GRACE_MS: '500' })
    const hold = await holdWrites(database.url)
    const answer = create(server.url, 'held').catch(() => undefined)
    await until(async () => (await hold.waiting()) > 0)
    const asked = performance.now()
    const { code } = await server.stop(8000)
    expect(code).toBeGreaterThan(0)
    expect(performance.now() - asked).toBeLessThan(8000)
    await hold.letGo()
    await answer
  })
})

const mongoIsThere = await serverIsAvailable()

describe('start', () => {
  test('PostgreSQL that cannot be reached is told, and the exit code is 1', async () => {
    const unreachable = { DATABASE_URL: 'postgresql://dualstore:secret@127.0.0.1:9/none' }
    const failed = await serve(unreachable).catch((error: Error) => error.message)
    expect(failed).toContain('ended before it was ready (1)')
    expect(failed).toContain('cannot be reached (ECONNREFUSED)')
    expect(failed).toContain('DATABASE_URL')
    expect(failed).not.toContain('secret')
  })

  test('two servers that start at once on an empty database both serve', async () => {
    await database.close()
    database = await createDatabase({ migrated: false })
    const servers = await Promise.all([serve(), serve()])
    for (const [index, { url }] of servers.entries())
      expect((await create(url, `m${index}`)).status).toBe(201)
    for (const { url } of servers) expect((await call(url, '/api/v1/session_messages/m0')).status).toBe(200)
    for (const server of servers) expect((await server.stop()).code).toBe(0)
  })

  test('two servers that start at once in an empty data directory both serve, and stop', async () => {
    const env = { DATABASE_URL: '', DUALSTORE_DATA_DIR: await dataDirectory() }
    const servers = await Promise.all([serve(env), serve(env)])
    for (const [index, { url }] of servers.entries())
      expect((await create(url, `m${index}`)).status).toBe(201)
    const exits = await Promise.all(servers.map((server) => server.stop()))
    expect(exits.map(({ code }) => code)).toEqual([0, 0])
  })

  test.runIf(mongoIsThere)(
    'a mirror that is down does not keep it from serving, and is caught up when it comes',
    { timeout: 60_000 },
    async () => {
      const mongo = await startMongo()
      atEndOfFile(() => mongo.stop())
      await mongo.kill9()
      const server = await serve({ MONGODB_URI: mongo.uri })
      expect((await create(server.url, 'early')).status).toBe(201)
      await until(async () => !(await ready(server.url)).checks.mirror.ok)
      expect((await ready(server.url)).status).toBe(200)
      const strict = await create(server.url, 'strict', { 'x-dualstore-consistency': 'strict' })
      expect([strict.status, ((await strict.json()) as { code: string }).code]).toEqual([
        503,
        'MIRROR_UNAVAILABLE',
      ])
      expect((await call(server.url, '/api/v1/session_messages/strict')).status).toBe(404)
      await mongo.restart()
      await until(async () => {
        const { mirror } = (await ready(server.url)).checks
        return mirror.ok && mirror.lag === 0
      }, 40_000)
      const headers = { 'x-dualstore-read-from': 'mirror' }
      await until(
        async () => (await call(server.url, '/api/v1/session_messages/early', { headers })).status === 200,
      )
      expect((await server.stop()).code).toBe(0)
    },
  )
})

describe('PostgreSQL goes away', () => {
  let proxy: StoreProxy
  beforeEach(async () => {
    proxy = await startProxy(database.url)
  })
  afterEach(() => proxy.close())

  test.each(['cut', 'freeze'] as const)(
    '%s: ready and writes answer 503 within 3 s, and it recovers without a restart',
    async (how) => {
      const server = await serve({ DATABASE_URL: proxy.through(database.url) })
      expect((await create(server.url, 'before')).status).toBe(201)
      proxy[how]()
      for (const id of ['one', 'two']) {
        const asked = performance.now()
        const answer = await create(server.url, id)
        expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([
          503,
          'STORE_UNAVAILABLE',
        ])
        expect(performance.now() - asked).toBeLessThan(3000)
      }
      const asked = performance.now()
      const { status, checks } = await ready(server.url)
      expect(performance.now() - asked).toBeLessThan(3000)
      expect(status).toBe(503)
      expect(checks.postgres).toEqual({ ok: false, reason: expect.stringContaining('PostgreSQL') })
      expect((await call(server.url, '/health/live')).status).toBe(200)
      proxy.restore()
      await until(async () => (await ready(server.url)).status === 200)
      expect((await create(server.url, 'after')).status).toBe(201)
      await until(async () => (await ready(server.url)).checks.mirror.lag === 0)
      expect((await server.stop()).code).toBe(0)
    },
  )
})

describe.runIf(mongoIsThere)('two instances with one MongoDB (I5)', () => {
  const leader = async () => {
    const { rows } = await database.pool.query<{ leader: string | null }>(
      `SELECT leader FROM dualstore.followers WHERE id = 'mirror'`,
    )
    return Number(rows[0]?.leader?.split('-')[0])
  }
  const writeSome = async (url: string, from: number, count: number) => {
    for (let number = from; number < from + count; number++) {
      expect((await create(url, `m${number}`)).status).toBe(201)
    }
  }
  const mirrored = async (url: string) => {
    const answer = await call(url, '/api/v1/session_messages?limit=100&sort_by=id&sort_order=asc', {
      headers: { 'x-dualstore-read-from': 'mirror' },
    })
    return ((await answer.json()) as { data: { id: string }[] }).data
  }
  const stored = async (url: string) => {
    const answer = await call(url, '/api/v1/session_messages?limit=100&sort_by=id&sort_order=asc')
    return ((await answer.json()) as { data: { id: string }[] }).data
  }

  test.each(['SIGKILL', 'SIGSTOP'] as const)(
    'a leader that gets %s is replaced within 10 s, and the mirror ends equal to PostgreSQL',
    { timeout: 60_000 },
    async (signal) => {
      const mongo = await startMongo()
      atEndOfFile(() => mongo.stop())
      const env = { MONGODB_URI: mongo.uri }
      const servers = [await serve(env), await serve(env)]
      await writeSome(servers[0]!.url, 0, 10)
      await until(async () => (await leader()) > 0)
      const leads = await leader()
      const first = servers.find(({ pid }) => pid === leads)!
      const second = servers.find(({ pid }) => pid !== leads)!
      first.signal(signal)
      const began = performance.now()
      await writeSome(second.url, 10, 10)
      await until(async () => (await leader()) === second.pid, 20_000)
      await until(async () => (await ready(second.url)).checks.mirror.lag === 0, 20_000)
      console.info(`${signal}: replaced and caught up after ${Math.round(performance.now() - began)} ms`)
      expect(performance.now() - began).toBeLessThan(10_000)
      await call(second.url, '/api/v1/session_messages/m3', { method: 'DELETE' })
      if (signal === 'SIGSTOP') {
        first.signal('SIGCONT')
        await writeSome(first.url, 20, 10)
      }
      await until(async () => (await ready(second.url)).checks.mirror.lag === 0)
      expect(await mirrored(second.url)).toEqual(await stored(second.url))
      expect(await leader()).toBe(second.pid)
      expect((await second.stop()).code).toBe(0)
    },
  )
})

import type { FastifyInstance } from 'fastify'
import pg from 'pg'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { availabilityOf, openPool, query } from '../../../src/server/db/pool.js'
import { until } from '../../support/follower.js'
import { holdWrites } from '../../support/hold.js'
import { type Answer, bodies, type CallOptions, call } from '../../support/http.js'
import { atEndOfFile } from '../../support/leaks.js'
import { readMetrics } from '../../support/metrics.js'
import { startPostgres, type TestPostgresServer } from '../../support/postgres.js'
import { type StoreProxy, startProxy } from '../../support/proxy.js'
import { testServer } from '../../support/server.js'

/** What docs/operations.md promises of each failure of PostgreSQL, on a server of its own that is really failing. */
let postgres: TestPostgresServer
let proxy: StoreProxy
let app: FastifyInstance

const MESSAGES = '/api/v1/session_messages'
const body = bodies.session_messages as object
let created = 0

beforeAll(async () => {
  postgres = await startPostgres()
  proxy = await startProxy(postgres.url)
  atEndOfFile(() => proxy.close())
  app = await testServer('embedded', {
    databaseUrl: proxy.through(postgres.url),
    databaseStatementTimeoutMs: 2000,
  })
  const known = await call(app, 'POST', MESSAGES, {
    body: { id: 'known', ...body },
    headers: { 'x-dualstore-consistency': 'strict' },
  })
  expect(known.status, known.text).toBe(201)
})
afterEach(() => proxy.restore())

const write = () => call(app, 'POST', MESSAGES, { body: { id: `m${++created}`, ...body } })
const read = (path = '/known', options: CallOptions = {}) => call(app, 'GET', MESSAGES + path, options)

async function timed(answer: Promise<Answer>): Promise<{ answer: Answer; ms: number }> {
  const asked = performance.now()
  return { answer: await answer, ms: performance.now() - asked }
}

/** A write is answered with 503 in under a second. */
async function expectRefused(writing: Promise<Answer>): Promise<void> {
  const { answer, ms } = await timed(writing)
  expect([answer.status, answer.json.code, answer.headers['retry-after']], answer.text).toEqual([
    503,
    'STORE_UNAVAILABLE',
    '1',
  ])
  expect(ms).toBeLessThan(1000)
}

async function expectFromMirror(answer: Answer): Promise<void> {
  expect(answer.status, answer.text).toBe(200)
  expect(answer.headers['x-dualstore-source']).toBe('mirror')
  expect(answer.headers['x-dualstore-position']).toMatch(/^[0-9a-f]{8}-\d+$/)
}

/** Every write is refused quickly, reads come from the mirror and say so (I9). */
async function expectAway(): Promise<void> {
  await expectRefused(write())
  await Promise.all(Array.from({ length: 20 }, () => expectRefused(write())))
  await expectRefused(call(app, 'PUT', `${MESSAGES}/known`, { body }))
  await expectRefused(call(app, 'PATCH', `${MESSAGES}/known`, { body: { content: 'x' } }))
  await expectRefused(call(app, 'DELETE', `${MESSAGES}/known`))
  const document = await read()
  await expectFromMirror(document)
  expect(document.json.data).toMatchObject({ id: 'known', ...body })
  const list = await read('?session_id=ses_1&sort_order=asc')
  await expectFromMirror(list)
  expect(list.json.data[0].id).toBe('known')
}

/** Serves again, without anybody having restarted it, and nothing is flagged. */
async function expectBack(server = postgres): Promise<void> {
  await until(async () => (await write()).status === 201)
  expect((await read()).headers['x-dualstore-source']).toBeUndefined()
  // The connection that notices the next outage stands again too.
  await until(async () => (await server.run(LISTENING)).length > 0)
}
const SESSIONS_OF_SERVER = `SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'dualstore%'
  AND application_name <> 'dualstore embedded'`
const LISTENING = `SELECT 1 FROM pg_stat_activity WHERE application_name = 'dualstore listen' AND query = 'SELECT 1'`

describe('away', () => {
  test('killed with -9: refused, read from the mirror, back when it is started again', async () => {
    await readMetrics(app)
    await postgres.kill9()
    await expectAway()
    const metrics = await readMetrics(app)
    expect(metrics.get('dualstore_postgres_up')).toBe(0)
    expect(metrics.get('dualstore_breaker_state{store="postgres"}')).toBeGreaterThan(0)
    // What was known last is told all the same.
    expect(metrics.get('dualstore_follower_lag_changes{follower="mirror"}')).toBe(0)
    await postgres.start()
    proxy.retarget(postgres.url)
    await expectBack()
  })

  test('killed: whoever insists on PostgreSQL is told that it is away', async () => {
    const { headers } = await write()
    const position = headers['x-dualstore-position'] ?? ''
    proxy.cut()
    await expectRefused(write())
    for (const answer of [
      read('/known', { headers: { 'x-dualstore-read-from': 'postgres' } }),
      read('/known', { headers: { 'x-dualstore-wait-for': position } }),
      // The mirror cannot search; the request is right all the same.
      read('?q=hello'),
      read('?sort_by=content'),
      // It may exist without the mirror having it yet.
      read('/never-seen'),
    ])
      await expectRefused(answer)
    proxy.restore()
    await expectBack()
    expect((await read('/never-seen')).status).toBe(404)
  })

  test('stopped: a write in flight is answered in under a second too', async () => {
    await postgres.signal('SIGSTOP')
    await Promise.all([expectRefused(write()), expectRefused(write())])
    await expectAway()
    await postgres.signal('SIGCONT')
    await expectBack()
  })

  test('the network swallows everything', async () => {
    proxy.freeze()
    await expectRefused(write())
    await expectAway()
    proxy.restore()
    await expectBack()
  })

  test('the network is cut in the middle of a write', async () => {
    const hold = await holdWrites(postgres.url)
    const held = write()
    await until(async () => (await hold.waiting()) > 0)
    proxy.cut()
    await expectRefused(held)
    await hold.letGo()
    proxy.restore()
    await expectBack()
  })

  test('restarted in an orderly way', async () => {
    await postgres.stop()
    await expectRefused(write())
    await postgres.start()
    proxy.retarget(postgres.url)
    await expectBack()
  })
})

describe('slow', () => {
  test('a statement that takes too long fails alone, and is no outage', async () => {
    const hold = await holdWrites(postgres.url)
    const { answer } = await timed(write())
    expect([answer.status, answer.json.message]).toEqual([503, expect.stringContaining('took too long')])
    expect((await read()).headers['x-dualstore-source']).toBeUndefined()
    expect((await readMetrics(app)).get('dualstore_breaker_state{store="postgres"}')).toBe(0)
    await hold.letGo()
    await expectBack()
  })

  test('a delay below the limit is served, only later', async () => {
    proxy.slow(100)
    const { answer } = await timed(write())
    expect(answer.status).toBe(201)
    expect((await read()).headers['x-dualstore-source']).toBeUndefined()
  })

  test.each([
    ['late', () => proxy.slow(2500)],
    ['in a trickle', () => proxy.trickle(200)],
  ])('answers that come %s are as good as none', async (_how, disturb) => {
    disturb()
    await expectRefused(write())
    await expectAway()
    proxy.restore()
    await expectBack()
  })
})

describe('serves, but not everything', () => {
  const writesState = async () =>
    (await readMetrics(app)).get('dualstore_breaker_state{store="postgres_writes"}')

  test('read-only: writes are refused, reads still come from PostgreSQL; back without a restart', async () => {
    await postgres.run('ALTER SYSTEM SET default_transaction_read_only = on', 'SELECT pg_reload_conf()')
    await until(async () => (await write()).status === 503)
    await expectRefused(write())
    const document = await read()
    expect([document.status, document.headers['x-dualstore-source']]).toEqual([200, undefined])
    await until(async () => (await writesState()) !== 0)
    await postgres.run(
      'SET default_transaction_read_only = off',
      'ALTER SYSTEM RESET default_transaction_read_only',
      'SELECT pg_reload_conf()',
    )
    await expectBack()
  })

  test('out of connections: it goes on with those it has, and with none it is refused quickly', async () => {
    await expectBack()
    const others: pg.Client[] = []
    const fill = async () => {
      for (;;) {
        const other = new pg.Client({ connectionString: postgres.url })
        other.on('error', () => {})
        try {
          await other.connect()
        } catch {
          return
        }
        others.push(other)
      }
    }
    await fill()
    const writes = await Promise.all(Array.from({ length: 30 }, write))
    expect(new Set(writes.map(({ status }) => status))).toEqual(new Set([201]))
    proxy.cut()
    await until(async () => (await others[0]?.query(SESSIONS_OF_SERVER))?.rows.length === 0)
    await fill()
    proxy.restore()
    await expectRefused(write())
    await expectFromMirror(await read())
    await Promise.all(others.map((other) => other.end()))
    await expectBack()
  })

  test('failover: from the demoted server to the new primary behind the same name', async () => {
    await postgres.stop()
    const successor = await postgres.copy()
    await postgres.start({ standby: true })
    proxy.retarget(postgres.url)
    await until(async () => (await read()).headers['x-dualstore-source'] === undefined)
    await expectRefused(write())
    // The connections to the former primary stand, and it still answers.
    await successor.start()
    proxy.retarget(successor.url)
    await expectBack(successor)
    await until(async () => (await writesState()) === 0)
    await expectRefusedNowhere()
    await expectFoundAmong(postgres.url, successor.url)
  })

  /** A connection string that names both leads to the one that takes writes, and to the other when that is gone. */
  async function expectFoundAmong(standby: string, primary: string): Promise<void> {
    const both = new URL(standby)
    const url = standby.replace(both.host, `${both.host},${new URL(primary).host}`)
    const pool = openPool({
      url,
      size: 2,
      connectTimeoutMs: 2000,
      statementTimeoutMs: 5000,
      applicationName: 'both',
      onIdleError: () => {},
    })
    await availabilityOf(pool).find()
    const [row] = await query(pool, 'SELECT pg_is_in_recovery() AS standby')
    expect(row).toEqual({ standby: false })
    await pool.end()
  }

  /** No connection is left that leads to the former primary. */
  async function expectRefusedNowhere(): Promise<void> {
    const writes = await Promise.all(Array.from({ length: 30 }, write))
    expect(new Set(writes.map(({ status }) => status))).toEqual(new Set([201]))
  }
})

import type { FastifyInstance } from 'fastify'
import { MongoClient } from 'mongodb'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { testDatabase } from '../../support/database.js'
import { until } from '../../support/follower.js'
import { freeze } from '../../support/freeze.js'
import { bodies, call } from '../../support/http.js'
import { atEndOfFile } from '../../support/leaks.js'
import { readMetrics } from '../../support/metrics.js'
import { type MongoServer, serverIsAvailable, startMongo } from '../../support/mongo.js'
import { type StoreProxy, startProxy } from '../../support/proxy.js'
import { testServer } from '../../support/server.js'

const MESSAGES = '/api/v1/session_messages'
const body = bodies.session_messages as object

/** What docs/operations.md promises of each failure of MongoDB, on a server of its own that is really failing. */
describe.runIf(await serverIsAvailable())('MongoDB', () => {
  let mongo: MongoServer
  let proxy: StoreProxy
  let app: FastifyInstance
  let control: MongoClient
  let created = 0

  beforeAll(async () => {
    mongo = await startMongo()
    atEndOfFile(() => mongo.stop())
    control = new MongoClient(mongo.uri)
    atEndOfFile(() => control.close())
    proxy = await startProxy(mongo.uri)
    atEndOfFile(() => proxy.close())
    const { url: databaseUrl } = await testDatabase()
    const mongodbUri = proxy.through(mongo.uri)
    app = await testServer('embedded', { databaseUrl, mongodbUri, mirrorTimeoutMs: 500 })
    expect((await write('strict')).status).toBe(201)
  })
  afterEach(async () => {
    proxy.restore()
    await failing('off')
  })

  const write = (consistency = 'eventual') =>
    call(app, 'POST', MESSAGES, {
      body: { id: `m${++created}`, ...body },
      headers: { 'x-dualstore-consistency': consistency },
    })
  const readMirror = (id = 'm1') =>
    call(app, 'GET', `${MESSAGES}/${id}`, { headers: { 'x-dualstore-read-from': 'mirror' } })
  const metric = async (key: string) => (await readMetrics(app)).get(key)
  const trouble = (kind: string) => metric(`dualstore_mirror_trouble{kind="${kind}"}`)
  const breaker = () => metric('dualstore_breaker_state{store="mirror"}')
  const lag = () => metric('dualstore_follower_lag_changes{follower="mirror"}')

  async function failing(errorCode: number | 'off', failCommands: readonly string[] = []): Promise<void> {
    const off = errorCode === 'off'
    await control.db('admin').command({
      configureFailPoint: 'failCommand',
      mode: off ? 'off' : 'alwaysOn',
      ...(!off && { data: { errorCode, failCommands } }),
    })
  }

  /** Writes go on; what is strict is refused before anything is written, and quickly. */
  async function expectWritesGoOn(): Promise<void> {
    const writes = await Promise.all(Array.from({ length: 20 }, () => write()))
    expect(new Set(writes.map(({ status }) => status))).toEqual(new Set([201]))
    expect(await lag()).toBeGreaterThanOrEqual(20)
    const asked = performance.now()
    const strict = await write('strict')
    expect([strict.status, strict.json.code]).toEqual([503, 'MIRROR_UNAVAILABLE'])
    expect(performance.now() - asked).toBeLessThan(1000)
    expect((await call(app, 'GET', `${MESSAGES}/m${created}`)).status).toBe(404)
  }

  async function expectReadsRefused(): Promise<void> {
    const asked = performance.now()
    const answer = await readMirror()
    expect([answer.status, answer.json.code]).toEqual([503, 'MIRROR_UNAVAILABLE'])
    expect(performance.now() - asked).toBeLessThan(1000)
  }

  /** Drained by itself; nothing is left of it in the metrics. */
  async function expectDrained(): Promise<void> {
    await until(async () => (await lag()) === 0, 25_000)
    await until(async () => (await breaker()) === 0)
    expect((await readMirror(`m${created - 1}`)).status).toBe(200)
    expect((await write('strict')).status).toBe(201)
  }

  test('killed with -9: the log keeps what it misses, and drains when it is started again', async () => {
    await mongo.kill9()
    expect((await write()).status).toBe(201)
    await until(async () => (await trouble('away')) === 1)
    await until(async () => (await breaker()) !== 0)
    await expectWritesGoOn()
    await expectReadsRefused()
    await mongo.restart()
    await expectDrained()
  })

  test('stopped: it is known to be away, and drains when it goes on', async () => {
    await freeze(mongo.pid)
    try {
      expect((await write()).status).toBe(201)
      await until(async () => (await breaker()) !== 0)
      await expectWritesGoOn()
      await expectReadsRefused()
    } finally {
      process.kill(mongo.pid, 'SIGCONT')
    }
    await expectDrained()
  })

  test('slow: what takes longer than the limit is tried again in smaller pieces', async () => {
    proxy.slow(800)
    expect((await write()).status).toBe(201)
    await until(async () => (await trouble('slow')) === 1)
    await expectWritesGoOn()
    proxy.restore()
    await expectDrained()
  })

  test('cut by the network while changes are applied', async () => {
    const writes = Promise.all(Array.from({ length: 200 }, () => write()))
    proxy.cut()
    expect(new Set((await writes).map(({ status }) => status))).toEqual(new Set([201]))
    await until(async () => (await breaker()) !== 0)
    proxy.restore()
    await expectDrained()
  })

  test.each([
    ['read-only', 'read_only', 10107],
    ['out of disk space', 'full', 14031],
  ])('%s: reads from it go on', async (_what, kind, code) => {
    await failing(code, ['update', 'delete', 'insert'])
    expect((await write()).status).toBe(201)
    await until(async () => (await trouble(kind)) === 1)
    await expectWritesGoOn()
    expect((await readMirror()).status).toBe(200)
    await failing('off')
    await expectDrained()
  })

  test('it refuses the credentials: reads from it are refused too', async () => {
    await failing(18, ['update', 'delete', 'insert', 'find', 'ping'])
    expect((await write()).status).toBe(201)
    await until(async () => (await trouble('refused')) === 1)
    await until(async () => (await breaker()) !== 0)
    await expectWritesGoOn()
    await expectReadsRefused()
    await failing('off')
    await expectDrained()
  })
})

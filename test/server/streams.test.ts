import { once } from 'node:events'
import { Agent, get, type IncomingMessage } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { describe, expect, test } from 'vitest'
import { createServer } from '../../src/server/index.js'
import { createDatabase, testDatabase } from '../support/database.js'
import { dataDirectory } from '../support/directory.js'
import { ofType, openStream } from '../support/event-stream.js'
import { bodies, call, create, withQuery } from '../support/http.js'
import { startProxy } from '../support/proxy.js'
import { testServer } from '../support/server.js'

const task = bodies.agent_tasks ?? {}
const listening = async (app: Awaited<ReturnType<typeof testServer>>) =>
  `${await app.listen({ host: '127.0.0.1', port: 0 })}/api/v1/stream`
const ready = ofType('ready')
/** Resolves when a poll has reached the server; call before it is ready. */
const polled = (app: FastifyInstance) =>
  new Promise<void>((resolve) => {
    app.addHook('preHandler', async ({ url }) => {
      if (url.includes('/changes')) resolve()
    })
  })

describe('two instances on one PostgreSQL', () => {
  test('a write through one reaches the clients of both, and a client may come back to either', async () => {
    const { url: databaseUrl } = await testDatabase()
    const [a, b] = [
      await testServer('embedded', { databaseUrl }),
      // Hears of writes by notification alone.
      await testServer('embedded', { databaseUrl, followPollMs: 60_000 }),
    ]
    const [atA, atB] = [await listening(a), await listening(b)]
    const streams = [await openStream(atA), await openStream(atB)]
    for (const stream of streams) await stream.until(ready)
    const first = await create(a, 'agent_tasks', task)
    const second = await create(b, 'agent_tasks', task)
    for (const stream of streams) {
      await stream.until(({ data }) => data.data.id === second.id)
      expect(stream.changes().map(({ data }) => data.data.id)).toEqual([first.id, second.id])
      stream.close()
    }
    const [seen] = streams[0]?.changes() ?? []
    const again = await openStream(atB, { 'last-event-id': seen?.id ?? '' })
    await again.until(ready)
    expect(again.changes().map(({ data }) => data.data.id)).toEqual([second.id])
    again.close()
  })
})

describe('a quiet stream', () => {
  test('is sent heartbeats with the position up to which there was nothing for it', async () => {
    const app = await testServer('embedded', { sseHeartbeatInterval: 50 })
    const url = await listening(app)
    const stream = await openStream(`${url}/session_messages`)
    const start = (await stream.until(ready)).data.data.position
    await stream.until(ofType('heartbeat'))
    await create(app, 'agent_tasks', task)
    const moved = await stream.until(({ data }) => data.type === 'heartbeat' && data.data.position !== start)
    expect(moved).toMatchObject({
      event: 'heartbeat',
      id: undefined,
      data: { collection: 'session_messages' },
    })
    const again = await openStream(`${url}/agent_tasks`, { 'last-event-id': moved.data.data.position })
    await again.until(ready)
    expect(again.changes()).toEqual([])
    stream.close()
    again.close()
  })
})

describe('limits', () => {
  test('more streams than one address may have are 429, more than the process has are 503', async () => {
    const few = await listening(await testServer('embedded', { streamMaxConnectionsPerAddress: 2 }))
    const held = [await openStream(few), await openStream(few)]
    expect(await openStream(few)).toMatchObject({
      status: 429,
      body: expect.stringContaining('TOO_MANY_REQUESTS'),
    })
    held[0]?.close()
    await held[0]?.ended
    // The server learns of it a moment later than the client.
    for (let status = 429; status !== 200; ) {
      const next = await openStream(few)
      status = next.status
    }
    const full = await listening(await testServer('embedded', { streamMaxConnections: 1 }))
    const one = await openStream(full)
    const refused = await openStream(full)
    expect(refused).toMatchObject({ status: 503, body: expect.stringContaining('OVERLOADED') })
    expect(refused.headers['retry-after']).toBeDefined()
    one.close()
  })

  test('SSE_ENABLED=false serves no streams', async () => {
    const url = await listening(await testServer('embedded', { sseEnabled: false }))
    expect((await openStream(url)).status).toBe(404)
  })
})

describe('shutdown', () => {
  test('ends every stream with an event that says where and when to come back, and answers who polls', async () => {
    const { url: databaseUrl } = await testDatabase()
    const dataDir = await dataDirectory()
    const app = await createServer({ databaseUrl, dataDir, logLevel: 'silent' })
    const waiting = polled(app)
    const url = await listening(app)
    const streams = await Promise.all(Array.from({ length: 5 }, () => openStream(`${url}/agent_tasks`)))
    for (const stream of streams) await stream.until(ready)
    const made = await create(app, 'agent_tasks', task)
    for (const stream of streams) await stream.until(({ data }) => data.data.id === made.id)
    const polling = fetch(`${url.replace('/stream', '')}/agent_tasks/changes?wait=60`)
    await waiting
    const began = Date.now()
    await app.close()
    for (const stream of streams) {
      await stream.ended
      const last = stream.events.at(-1)
      expect(last).toMatchObject({ event: 'close', id: undefined })
      expect(last?.data.data).toEqual({
        reason: 'shutting_down',
        position: stream.changes().at(-1)?.id,
        retry: stream.retry,
      })
    }
    expect((await polling).status).toBe(200)
    expect(Date.now() - began).toBeLessThan(5000)
  })

  test('does not wait for the connections of clients that keep them alive', async () => {
    const { url: databaseUrl } = await testDatabase()
    // As long as a balancer keeps them.
    const app = await createServer({ databaseUrl, dataDir: await dataDirectory(), logLevel: 'silent' })
    const polling = polled(app)
    const url = `${await listening(app)}/agent_tasks`
    const agent = new Agent({ keepAlive: true })
    const ask = async (path: string) => {
      const request = get(path, { agent })
      const [response] = (await once(request, 'response')) as [IncomingMessage]
      response.resume()
      return { response, ended: once(response, 'end'), connection: once(response.socket, 'close') }
    }
    const stream = await ask(url)
    const poll = ask(`${url.replace('/stream', '')}/changes?wait=60`)
    await polling
    const closing = app.close()
    const answered = await poll
    await Promise.all([stream.ended, answered.ended])
    // Each is closed by the server: the agent would have kept it.
    await Promise.all([stream.connection, answered.connection, closing])
    agent.destroy()
  })
})

describe('PostgreSQL away', () => {
  test('streams stay open and go on without a gap; new ones are 503', async () => {
    const database = await createDatabase()
    const proxy = await startProxy(database.url)
    const dataDir = await dataDirectory()
    const app = await createServer({
      databaseUrl: proxy.through(database.url),
      dataDir,
      logLevel: 'silent',
      followPollMs: 50,
    })
    try {
      const url = await listening(app)
      const stream = await openStream(`${url}/agent_tasks`)
      await stream.until(ready)
      await create(app, 'agent_tasks', { ...task, id: 'before' })
      await stream.until(({ data }) => data.data.id === 'before')
      proxy.cut()
      expect((await openStream(`${url}/agent_tasks`)).status).toBe(503)
      for (const id of ['during1', 'during2']) {
        await database.pool.query(
          `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
           VALUES ('agent_tasks', $1, jsonb_build_object('id', $1::text), 1, 1)`,
          [id],
        )
      }
      proxy.restore()
      await stream.until(({ data }) => data.data.id === 'during2')
      expect(stream.changes().map(({ data }) => data.data.id)).toEqual(['before', 'during1', 'during2'])
      stream.close()
    } finally {
      await app.close()
      await proxy.close()
      await database.close()
    }
  })
})

describe('the log changes under open streams', () => {
  test('retention passes a client that does not read: it is told, and goes on from the end', async () => {
    const { url: databaseUrl, pool } = await testDatabase()
    const app = await testServer('embedded', { databaseUrl })
    const url = await listening(app)
    const slow = await openStream(`${url}/agent_tasks`)
    await slow.until(ready)
    slow.pause()
    // More than its socket, both kernels' buffers and the memory of the tail hold together.
    const write = (from: number, to: number) =>
      pool.query(
        `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
         SELECT 'agent_tasks', 'big' || n, jsonb_build_object('id', 'big' || n, 'pad', repeat('x', 20000)), 1, 1
         FROM generate_series($1::int, $2::int) n`,
        [from, to],
      )
    for (let n = 0; n < 2000; n += 500) await write(n + 1, n + 500)
    const fast = await openStream(withQuery(`${url}/agent_tasks`, { filter: '{"id":"last"}' }))
    await create(app, 'agent_tasks', { ...task, id: 'last' })
    await fast.until(({ data }) => data.data.id === 'last')
    await pool.query('UPDATE dualstore.logs SET floor = (SELECT max(seq) FROM dualstore.changes)')
    await pool.query('DELETE FROM dualstore.changes')
    slow.resume()
    const reset = await slow.until(ofType('reset'))
    const before = slow.changes().at(-1)?.id
    expect(reset.data.data).toEqual({ reason: 'gone', requested: before, position: expect.any(String) })
    await create(app, 'agent_tasks', { ...task, id: 'after' })
    await slow.until(({ data }) => data.data.id === 'after')
    expect(slow.changes().at(-1)?.data.data.id).toBe('after')
    slow.close()
    fast.close()
  })

  test('a client that asked for a snapshot is sent one again after a reset', async () => {
    const { url: databaseUrl, pool } = await testDatabase()
    const app = await testServer('embedded', { databaseUrl, followPollMs: 50 })
    await create(app, 'agent_tasks', { ...task, id: 'held' })
    const stream = await openStream(withQuery(`${await listening(app)}/agent_tasks`, { from: 'snapshot' }))
    await stream.until(ready)
    await pool.query(`UPDATE dualstore.logs SET epoch = 'feedbeef'`)
    await stream.until(({ data }) => data.type === 'ready' && data.data.position.startsWith('feedbeef'))
    expect(stream.events.map(({ data }) => data.type)).toEqual([
      'connection',
      'insert',
      'ready',
      'reset',
      'insert',
      'ready',
    ])
    stream.close()
  })

  test('a restored log, which has another epoch, resets every client', async () => {
    const { url: databaseUrl, pool } = await testDatabase()
    const app = await testServer('embedded', { databaseUrl, followPollMs: 50 })
    const url = await listening(app)
    const streams = [await openStream(`${url}/agent_tasks`), await openStream(url)]
    for (const stream of streams) await stream.until(ready)
    await pool.query(`UPDATE dualstore.logs SET epoch = 'feedbeef'`)
    for (const stream of streams) {
      const reset = await stream.until(ofType('reset'))
      expect(reset.data.data).toMatchObject({ reason: 'other_log', position: 'feedbeef-0' })
    }
    const made = await create(app, 'agent_tasks', task)
    for (const stream of streams) {
      const insert = await stream.until(({ data }) => data.data.id === made.id)
      expect(insert.id).toBe('feedbeef-1')
      stream.close()
    }
    expect((await call(app, 'GET', '/api/v1/agent_tasks/changes')).json.position).toBe('feedbeef-1')
  })
})

describe('a client that does not read', () => {
  test('costs the others nothing, and misses nothing when it reads again', async () => {
    const { url: databaseUrl, pool } = await testDatabase()
    const app = await testServer('embedded', { databaseUrl })
    const url = await listening(app)
    const [slow, fast] = [await openStream(`${url}/agent_tasks`), await openStream(`${url}/agent_tasks`)]
    for (const stream of [slow, fast]) await stream.until(ready)
    slow.pause()
    const count = 3000
    for (let n = 0; n < count; n += 500) {
      await pool.query(
        `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
         SELECT 'agent_tasks', 'n' || n, jsonb_build_object('id', 'n' || n, 'n', n, 'pad', repeat('x', 10000)), 1, 1
         FROM generate_series($1::int + 1, $1::int + 500) n`,
        [n],
      )
    }
    await fast.until(({ data }) => data.data.n === count)
    slow.resume()
    await slow.until(({ data }) => data.data.n === count)
    const wanted = Array.from({ length: count }, (_, n) => n + 1)
    for (const stream of [slow, fast]) {
      expect(stream.changes().map(({ data }) => data.data.n)).toEqual(wanted)
      stream.close()
    }
  })
})

import { randomInt } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Pool } from '../../../src/server/db/pool.js'
import { ofType, openStream, type TestStream } from '../../support/event-stream.js'
import { bodies, call, create, withQuery } from '../../support/http.js'
import { listeningServer } from '../../support/server.js'

const task = bodies.agent_tasks ?? {}

let app: FastifyInstance
let base: string
let pool: Pool
beforeAll(async () => {
  ;({ app, base, pool } = await listeningServer())
})

const open = (path: string, query: Record<string, string>, headers: Record<string, string> = {}) =>
  openStream(withQuery(`${base}/api/v1/stream${path}`, query), headers)

/** What a client holds that applies every event up to `ready`, by collection and id. */
function heldAtReady(stream: TestStream): Map<string, unknown> {
  const held = new Map<string, unknown>()
  for (const { data } of stream.events) {
    if (data.type === 'ready') break
    const key = `${data.collection}/${data.data.id}`
    if (data.type === 'insert' || data.type === 'update') held.set(key, data.data)
    if (data.type === 'delete') held.delete(key)
  }
  return held
}

describe('from=snapshot', () => {
  test('sends what matches by id, without ids, then ready, then changes with the same filter', async () => {
    for (const [id, status] of [
      ['s3', 'failed'],
      ['s1', 'failed'],
      ['s2', 'pending'],
    ]) {
      await create(app, 'agent_tasks', { ...task, id, status })
    }
    const stream = await open('/agent_tasks', { from: 'snapshot', filter: '{"status":"failed"}' })
    const ready = await stream.until(ofType('ready'))
    expect(stream.events.map(({ data }) => [data.type, data.data.id, data.snapshot])).toEqual([
      ['connection', undefined, undefined],
      ['insert', 's1', true],
      ['insert', 's3', true],
      ['ready', undefined, undefined],
    ])
    expect(stream.events.every(({ id }) => id === undefined)).toBe(true)
    expect(ready.data.data.position).toMatch(/^[0-9a-f]{8}-3$/)
    await call(app, 'PATCH', '/api/v1/agent_tasks/s2', { body: { status: 'failed' } })
    await call(app, 'DELETE', '/api/v1/agent_tasks/s1')
    await stream.until(ofType('delete'))
    expect(stream.changes().map(({ id, data }) => [id, data.type, data.data.id])).toEqual([
      [expect.stringMatching(/-4$/), 'insert', 's2'],
      [expect.stringMatching(/-5$/), 'delete', 's1'],
    ])
    stream.close()
  })

  test('created_after alone replays what was created since, and nothing older', async () => {
    const items = ['2025-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z'].map((created_at, n) =>
      JSON.stringify({ ...task, id: `old${n}`, session_id: 'replay', created_at, updated_at: created_at }),
    )
    await call(app, 'POST', '/api/v1/agent_tasks/import', {
      headers: { 'content-type': 'application/x-ndjson' },
      body: items.join('\n'),
    })
    const stream = await open('/agent_tasks', {
      created_after: '2025-06-01',
      session_id: 'replay',
      format: 'message',
    })
    await stream.until(ofType('ready'))
    const made = await create(app, 'agent_tasks', { ...task, session_id: 'replay' })
    await stream.until(({ data }) => data.data.id === made.id)
    const inserted = stream.events.filter(({ data }) => data.type === 'insert')
    expect(inserted.map(({ data }) => data.data.id)).toEqual(['old1', made.id])
    stream.close()
  })

  test('with a good position there is no snapshot', async () => {
    const { position } = (await call(app, 'GET', '/api/v1/agent_tasks/changes')).json
    const stream = await open('/agent_tasks', { from: 'snapshot' }, { 'last-event-id': position })
    await stream.until(ofType('ready'))
    expect(stream.events.map(({ data }) => data.type)).toEqual(['connection', 'ready'])
    stream.close()
  })

  test('of several collections, while they are written to, folds to exactly the state at ready', async () => {
    const size = 3500
    for (const collection of ['session_messages', 'opencode_events']) {
      await pool.query(
        `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
         SELECT $1, 'd' || lpad(n::text, 6, '0'), jsonb_build_object('id', 'd' || lpad(n::text, 6, '0'), 'n', n % 10,
           'pad', repeat('x', 200)), 1, 1
         FROM generate_series(1, $2::int) n`,
        [collection, size],
      )
    }
    let writing = true
    let writes = 0
    const write = async () => {
      while (writing) {
        const collection = ['session_messages', 'opencode_events'][randomInt(2)]
        const id = `d${String(randomInt(size + 300)).padStart(6, '0')}`
        const item = JSON.stringify({ id, n: randomInt(10), at: ++writes })
        await pool.query(
          randomInt(4) === 0
            ? 'DELETE FROM dualstore.documents WHERE collection = $1 AND id = $2 AND $3::jsonb IS NOT NULL'
            : `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at) VALUES ($1, $2, $3, 1, 1)
               ON CONFLICT (collection, id) DO UPDATE SET item = EXCLUDED.item`,
          [collection, id, item],
        )
      }
    }
    const writers = [write(), write()]
    const streams = await Promise.all(
      [{}, { filter: '{"n":{"$lt":5}}' }].map((query) =>
        open('', { collections: 'opencode_events,session_messages', from: 'snapshot', ...query }),
      ),
    )
    // A client that does not take everything at once meets more of what is written meanwhile.
    const slow = streams[0]
    for (let turn = 0; turn < 10; turn++) {
      slow?.pause()
      const before = writes
      while (writes < before + 20) await pool.query('SELECT pg_sleep(0.01)')
      slow?.resume()
    }
    await Promise.all(streams.map((stream) => stream.until(ofType('ready'))))
    writing = false
    await Promise.all(writers)

    for (const [index, stream] of streams.entries()) {
      const ready = (await stream.until(ofType('ready'))).data.data.position as string
      const at = Number(ready.split('-')[1])
      const { rows: state } = await pool.query(
        `SELECT collection || '/' || id AS key, item FROM (
           SELECT DISTINCT ON (collection, id) collection, id, op, item FROM dualstore.changes
           WHERE collection IN ('session_messages', 'opencode_events') AND seq <= $1
           ORDER BY collection, id, seq DESC) c
         WHERE op <> 'delete' AND ($2 OR (item ->> 'n')::int < 5)`,
        [at, index === 0],
      )
      expect(heldAtReady(stream)).toEqual(new Map(state.map(({ key, item }) => [key, item])))
      stream.close()
    }
    expect(writes).toBeGreaterThan(100)
  })

  test('of all collections holds those that are made while it is sent, before and behind its place', async () => {
    // More than a socket takes, so that the snapshot stands still in this collection while the client does not read.
    await pool.query(
      `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
       SELECT 'opencode_events', 'large' || n, jsonb_build_object('id', 'large' || n, 'pad', repeat('x', 100000)), 1, 1
       FROM generate_series(1, 300) n`,
    )
    const stream = await open('', { from: 'snapshot' })
    stream.pause()
    const made = ['a_collection', 'z_collection'].map(async (name) => {
      const body = { name, label: name, id_prefix: 'x', schema: { type: 'object', properties: {} } }
      expect((await call(app, 'POST', '/api/v1/collections', { body })).status).toBe(201)
      return create(app, name, { id: `in ${name}` })
    })
    const items = await Promise.all(made)
    stream.resume()
    const ready = (await stream.until(ofType('ready'))).data.data.position as string
    const { rows } = await pool.query<{ head: number }>('SELECT dualstore.log_head() AS head')
    expect(Number(ready.split('-')[1])).toBe(rows[0]?.head)
    const held = heldAtReady(stream)
    expect(held.get('a_collection/in a_collection')).toEqual(items[0])
    expect(held.get('z_collection/in z_collection')).toEqual(items[1])
    stream.close()
  })
})

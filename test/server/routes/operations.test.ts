import type { FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Pool } from '../../../src/server/db/pool.js'
import { testDatabase } from '../../support/database.js'
import { caughtUp, insertMessages, until } from '../../support/follower.js'
import { call } from '../../support/http.js'
import { testServer } from '../../support/server.js'

const BASE = '/api/v1/dualstore'
let app: FastifyInstance
let pool: Pool
beforeAll(async () => {
  const database = await testDatabase()
  pool = database.pool
  app = await testServer('embedded', { databaseUrl: database.url })
  await insertMessages(pool, ['a', 'b', 'c/d'])
  await caughtUp(pool)
})
const get = (path: string) => call(app, 'GET', `${BASE}${path}`)
const post = (path: string, body?: object) => call(app, 'POST', `${BASE}${path}`, body && { body })
const ended = async (id: string) => {
  let answer = await get(`/jobs/${id}`)
  await until(async () => {
    answer = await get(`/jobs/${id}`)
    return answer.json.data.finished_at !== null
  })
  return answer.json.data
}

describe('jobs', () => {
  test('a verification is started with 202, runs, and is listed and shown with its result', async () => {
    const started = await post('/verify', { collections: ['session_messages'], rate: 1000 })
    expect(started).toMatchObject({
      status: 202,
      json: {
        success: true,
        data: { kind: 'verify', state: 'queued', started_by: 'everyone', progress: null, result: null },
      },
    })
    const { id } = started.json.data
    expect(await ended(id)).toMatchObject({
      state: 'done',
      options: { collections: ['session_messages'], rate: 1000 },
      progress: { documents: 3, found: 0 },
      result: {
        agree: true,
        documents: 3,
        collections: { session_messages: { documents: 3, missing: 0 } },
        not_checked: ['agent_tasks, opencode_events: not asked for'],
      },
    })
    const listed = await get('/jobs?kind=verify&limit=1')
    expect(listed.json.data).toEqual([(await get(`/jobs/${id}`)).json.data])
    const differences = await get(`/jobs/${id}/differences`)
    expect(differences).toMatchObject({ status: 200, text: '' })
    expect(differences.headers['content-type']).toBe('application/x-ndjson')
    expect(await post(`/jobs/${id}/cancel`)).toMatchObject({ status: 409, json: { code: 'CONFLICT' } })
  })

  test('a repair writes nothing unless it is told to', async () => {
    // A document that the log does not know of has never come to the mirror.
    const session = await pool.connect()
    await session.query('SET session_replication_role = replica')
    await session.query(
      `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
       SELECT collection, 'unlogged', item || '{"id": "unlogged"}', 1, 1 FROM dualstore.documents WHERE id = 'a'`,
    )
    session.release(true)
    const outcomeOf = async (body: object) => {
      const { id } = (await post('/repair', body)).json.data
      const { result } = await ended(id)
      const found = JSON.parse((await get(`/jobs/${id}/differences`)).text)
      return { agree: result.agree, repaired: result.repaired, ...found }
    }
    const missing = { collection: 'session_messages', id: 'unlogged', kind: 'missing', version: 1 }
    const dry = { ...missing, agree: false, repaired: 0, outcome: 'would_repair' }
    expect(await outcomeOf({})).toEqual(dry)
    expect(await outcomeOf({ apply: false })).toEqual(dry)
    expect(await outcomeOf({ apply: true })).toEqual({
      ...missing,
      agree: true,
      repaired: 1,
      outcome: 'repaired',
    })
  })

  test.each([
    ['/verify', { sample: 0 }, 'body.sample'],
    ['/verify', { sample: 1.5 }, 'body.sample'],
    ['/verify', { rate: 0 }, 'body.rate'],
    ['/verify', { collections: [] }, 'body.collections'],
    ['/verify', { apply: true }, 'body.apply'],
    ['/repair', { sample: 0.5 }, 'body.sample'],
    ['/repair', { apply: 'yes' }, 'body.apply'],
  ])('%s with %o is 400 and names %s', async (path, body, field) => {
    const answer = await post(path, body)
    expect(answer).toMatchObject({ status: 400, json: { details: [{ field }] } })
  })

  test('what is not there is 404', async () => {
    for (const path of ['/jobs/job_none', '/jobs/job_none/differences', '/parked/agent_tasks/none'])
      expect(await get(path), path).toMatchObject({ status: 404, json: { code: 'NOT_FOUND' } })
    const path = '/jobs/job_none/cancel'
    expect(await post(path)).toMatchObject({ status: 404, json: { code: 'NOT_FOUND' } })
    expect(await post('/verify', { collections: ['none'] })).toMatchObject({
      status: 404,
      json: { code: 'COLLECTION_NOT_FOUND' },
    })
    expect(await get('/foreign/none')).toMatchObject({ status: 404 })
  })
})

describe('parked documents', () => {
  const park = (id: string) =>
    pool.query(
      `INSERT INTO dualstore.parked (follower, collection, id, seq, reason)
       VALUES ('mirror', 'session_messages', $1, 1, 'too large')`,
      [id],
    )

  test('are listed page by page, shown, retried and skipped', async () => {
    for (const id of ['a', 'b', 'c/d']) await park(id)
    const first = await get('/parked?limit=2')
    expect(first.json.data).toMatchObject([
      { collection: 'session_messages', id: 'a', seq: 1, reason: 'too large', attempts: 1, retrying: false },
      { id: 'b' },
    ])
    expect((await get('/parked?after=session_messages/b')).json.data).toMatchObject([{ id: 'c/d' }])
    expect((await get('/parked?collection=agent_tasks')).json.data).toEqual([])
    expect((await get('/parked?after=b')).json).toMatchObject({ details: [{ field: 'query.after' }] })
    const shown = await get(`/parked/session_messages/${encodeURIComponent('c/d')}`)
    expect(shown.json.data).toMatchObject({
      reason: 'too large',
      document: { version: 1, item: { id: 'c/d', content: 'hello' } },
      mirrored: { _id: 'c/d', text: 'hello' },
      differences: [],
    })
    expect((await post('/parked/session_messages/a/retry')).json.data).toEqual({
      collection: 'session_messages',
      id: 'a',
      outcome: 'applied',
    })
    expect((await post('/parked/session_messages/b/skip')).json.data).toEqual({
      collection: 'session_messages',
      id: 'b',
    })
    expect((await get('/parked')).json.data).toMatchObject([{ id: 'c/d' }])
    expect(await post('/parked/session_messages/b/skip')).toMatchObject({ status: 404 })
    expect(await post('/parked/session_messages/b/retry')).toMatchObject({ status: 404 })
    await post(`/parked/session_messages/${encodeURIComponent('c/d')}/skip`)
  })
})

test('lines that are none of the list of foreign documents are refused', async () => {
  for (const line of ['no json', '[]', '"x"', '{}'])
    expect(await post('/foreign/session_messages/remove', { lines: [line] }), line).toMatchObject({
      status: 400,
      json: { details: [{ field: 'body.lines.0' }] },
    })
  expect((await get('/foreign/session_messages')).text).toBe('')
})

test('without a mirror there is nothing to verify or retry', async () => {
  const single = await testServer('embedded', { dualWriteEnabled: false })
  expect(await call(single, 'POST', `${BASE}/verify`, { body: {} })).toMatchObject({
    status: 409,
    json: { message: expect.stringContaining('DUAL_WRITE_ENABLED') },
  })
  expect(await call(single, 'POST', `${BASE}/parked/session_messages/a/retry`)).toMatchObject({ status: 503 })
})

import { describe, expect, test } from 'vitest'
import { testDatabase } from '../../support/database.js'
import { caughtUp, until } from '../../support/follower.js'
import { bodies, call, create, expectError } from '../../support/http.js'
import { mongoIsAvailable } from '../../support/mongo.js'
import { mirrorKinds, testServer } from '../../support/server.js'

const kinds = (await mongoIsAvailable()) ? mirrorKinds : (['embedded'] as const)

describe.each(kinds)('%s mirror', async (kind) => {
  const { url: databaseUrl, pool } = await testDatabase()
  const app = await testServer(kind, { databaseUrl })
  const order = (what: string, body?: object, name = 'mirror') =>
    call(app, 'POST', `/api/v1/dualstore/mirrors/${name}/${what}`, { ...(body && { body }) })
  const status = async () => (await call(app, 'GET', '/api/v1/dualstore/status')).json.data
  const mirror = async () => (await status()).mirrors[0]
  const write = () => create(app, 'agent_tasks', bodies.agent_tasks!)

  test('the status tells state, place, leader and heartbeat', async () => {
    await write()
    await caughtUp(pool)
    await until(async () => (await mirror()).rate.applied !== null)
    const { head, mirrors } = await status()
    expect(head).toMatch(/^[0-9a-f]{8}-1$/)
    expect(mirrors).toEqual([
      {
        name: 'mirror',
        kind,
        state: 'running',
        reason: null,
        since: expect.any(String),
        by: null,
        position: head,
        head,
        lag: { changes: 0, seconds: 0 },
        rate: { applied: expect.any(Number), written: expect.any(Number) },
        catch_up_seconds: 0,
        heartbeat: { at: expect.any(String), age_seconds: expect.any(Number) },
        leader: {
          instance: expect.stringContaining(`${process.pid}-`),
          host: expect.any(String),
          term: 1,
          lease_until: expect.any(String),
        },
        last_error: null,
        parked: 0,
        rebuild: null,
      },
    ])
    // A quiet log: the heartbeat goes on.
    const before = mirrors[0].heartbeat.at
    await until(async () => (await mirror()).heartbeat.at > before)
  })

  test('while it is paused the lag grows in changes and seconds, and resuming drains it', async () => {
    expect((await order('pause', { reason: 'moving' })).json.data).toMatchObject({
      state: 'paused',
      by: 'everyone',
    })
    await until(async () => (await mirror()).leader === null)
    await write()
    await write()
    await until(async () => (await mirror()).lag.seconds > 0)
    expect(await mirror()).toMatchObject({ state: 'paused', reason: 'moving', lag: { changes: 2 } })
    expect((await order('resume')).status).toBe(200)
    await caughtUp(pool)
    expect(await mirror()).toMatchObject({ lag: { changes: 0, seconds: 0 } })
    const { rows } = await pool.query(
      `SELECT actor, action, target, details FROM dualstore.audit ORDER BY seq`,
    )
    expect(rows).toEqual([
      { actor: 'everyone', action: 'mirror.pause', target: 'mirror', details: { reason: 'moving' } },
      { actor: 'everyone', action: 'mirror.resume', target: 'mirror', details: {} },
    ])
  })

  test('a position is set only while it is paused, confirmed, within the log, and forward only by force', async () => {
    const { head, position } = await mirror()
    const [epoch, end] = head.split('-')
    const at = (seq: number) => `${epoch}-${seq}`
    const refused = await order('position', { position, confirm: 'mirror' })
    expectError(refused, 409, 'CONFLICT')
    expect(refused.json.message).toContain('not paused')
    await order('pause')
    // Until its leader has heard of it, a write may still be applied.
    await until(async () => (await mirror()).leader === null)
    await write()
    for (const bad of ['x', '00000000-1', at(Number(end) + 100)]) {
      const answer = await order('position', { position: bad, confirm: 'mirror' })
      expectError(answer, 400, 'INVALID_REQUEST')
      expect(answer.json.details[0].field).toBe('body.position')
    }
    const asked = await order('position', { position: at(1) })
    expectError(asked, 400, 'CONFIRMATION_REQUIRED')
    expect(asked.json).toMatchObject({ replayed: Number(end) - 1, skipped: 0 })
    expect(asked.json.message).toContain(`${Number(end) - 1} changes would be applied again`)
    const forward = await order('position', { position: at(Number(end) + 1), confirm: 'mirror' })
    expectError(forward, 409, 'CONFLICT')
    expect(forward.json).toMatchObject({ skipped: 1, replayed: 0 })
    expect((await mirror()).position).toBe(position)

    const back = await order('position', { position: at(1), confirm: 'mirror' })
    expect(back.json.data).toMatchObject({
      from: position,
      to: at(1),
      skipped: 0,
      replayed: Number(end) - 1,
      mirror: { state: 'paused', position: at(1), lag: { changes: Number(end) } },
    })
    const ahead = await order('position', { position: at(Number(end) + 1), confirm: 'mirror', force: true })
    expect(ahead.json.data).toMatchObject({ skipped: Number(end), mirror: { lag: { changes: 0 } } })
    // What was skipped is not there, and what comes later is.
    await order('resume')
    const later = await call(app, 'POST', '/api/v1/agent_tasks', { body: bodies.agent_tasks })
    const headers = {
      'x-dualstore-read-from': 'mirror',
      'x-dualstore-wait-for': later.headers['x-dualstore-position'] as string,
    }
    const listed = await call(app, 'GET', '/api/v1/agent_tasks', { headers })
    expect(listed.json.pagination.total).toBe(Number(end) + 1)
    expect((await call(app, 'GET', '/api/v1/agent_tasks')).json.pagination.total).toBe(Number(end) + 2)
  })

  test('a rebuild is accepted, done in the background, and adds what was skipped', async () => {
    const accepted = await order('rebuild')
    expect(accepted.status).toBe(202)
    expect(accepted.json.data.rebuild).toMatchObject({ requested_by: 'everyone', finished_at: null })
    await until(async () => (await mirror()).rebuild.finished_at !== null)
    const total = (await call(app, 'GET', '/api/v1/agent_tasks')).json.pagination.total
    await until(async () => (await mirror()).state === 'running')
    const mirrored = await call(app, 'GET', '/api/v1/agent_tasks', {
      headers: { 'x-dualstore-read-from': 'mirror' },
    })
    expect(mirrored.json.pagination.total).toBe(total)
    expect((await mirror()).rebuild).toMatchObject({ phase: 'done', written: total, removed: 0 })
  })

  test('a mirror of another name is not found, and a wrong body names the field', async () => {
    for (const what of ['pause', 'resume', 'rebuild'])
      expectError(await order(what, {}, 'other'), 404, 'NOT_FOUND')
    expectError(await order('position', { position: 'x' }, 'other'), 404, 'NOT_FOUND')
    const wrong = await order('pause', { raison: 'x' })
    expectError(wrong, 400, 'INVALID_REQUEST')
    expectError(await order('pause', { reason: 'a\u0000b' }), 400, 'INVALID_REQUEST')
    expectError(await order('position', {}), 400, 'INVALID_REQUEST')
  })
})

test('whom some documents are closed orders nothing of a mirror that holds all', async () => {
  const app = await testServer('embedded', { authBearerToken: 'the-legacy-token-of-tests' })
  const legacy = { authorization: 'Bearer the-legacy-token-of-tests' }
  const scopes = { read: ['*'], write: ['agent_*'] }
  const made = await call(app, 'POST', '/api/v1/keys', {
    headers: legacy,
    body: { name: 'narrow', role: 'admin', scopes },
  })
  expect(made.status, made.text).toBe(201)
  const headers = { authorization: `Bearer ${made.json.data.key}` }
  expect((await call(app, 'GET', '/api/v1/dualstore/status', { headers })).status).toBe(200)
  const refused = await call(app, 'POST', '/api/v1/dualstore/mirrors/mirror/pause', { headers })
  expectError(refused, 403, 'FORBIDDEN')
  expect(
    (await call(app, 'GET', '/api/v1/dualstore/status', { headers })).json.data.mirrors[0].state,
  ).not.toBe('paused')
})

test('an order survives a restart, and a failure is told with its time until it is over and after', async () => {
  const { url: databaseUrl, pool } = await testDatabase()
  const first = await testServer('embedded', { databaseUrl })
  await call(first, 'POST', '/api/v1/dualstore/mirrors/mirror/pause')
  await first.close()
  // A MongoDB that is not there.
  const second = await testServer('embedded', {
    databaseUrl,
    mongodbUri: 'mongodb://127.0.0.1:9/?directConnection=true',
    mirrorTimeoutMs: 200,
  })
  const mirror = async () => (await call(second, 'GET', '/api/v1/dualstore/status')).json.data.mirrors[0]
  await create(second, 'agent_tasks', bodies.agent_tasks!)
  expect(await mirror()).toMatchObject({ state: 'paused', lag: { changes: 1 }, last_error: null })
  await call(second, 'POST', '/api/v1/dualstore/mirrors/mirror/resume')
  await until(async () => (await mirror()).state === 'down' && (await mirror()).last_error !== null)
  expect(await mirror()).toMatchObject({
    reason: expect.stringContaining('ECONNREFUSED'),
    last_error: { message: expect.stringContaining('ECONNREFUSED'), at: expect.any(String) },
    catch_up_seconds: null,
  })
  await second.close()
  const third = await testServer('embedded', { databaseUrl })
  await caughtUp(pool)
  const { state, reason, last_error } = (await call(third, 'GET', '/api/v1/dualstore/status')).json.data
    .mirrors[0]
  expect({ state, reason, last_error }).toEqual({
    state: 'running',
    reason: null,
    last_error: { message: expect.stringContaining('ECONNREFUSED'), at: expect.any(String) },
  })
})

import type { FastifyInstance } from 'fastify'
import { beforeAll, expect, test } from 'vitest'
import { testDatabase } from '../support/database.js'
import { ofType, openStream, type TestStream } from '../support/event-stream.js'
import { bodies, call, expectError } from '../support/http.js'
import { bearer, callAs, type MadeKey, makeKey, withAuth } from '../support/keys.js'
import { testServer } from '../support/server.js'

// Two instances on one PostgreSQL: what is revoked on one ends on both.
let first: string
let apps: FastifyInstance[]
let bases: string[]
beforeAll(async () => {
  const { url: databaseUrl } = await testDatabase()
  const open = await testServer('embedded', { databaseUrl, dualWriteEnabled: false })
  first = (await call(open, 'POST', '/api/v1/keys', { body: { name: 'first', role: 'admin' } })).json.data.key
  const instance = () => testServer('embedded', { databaseUrl, ...withAuth })
  apps = [await instance(), await instance()]
  bases = await Promise.all(apps.map((app) => app.listen({ host: '127.0.0.1', port: 0 })))
})

const everywhere = (key: string, path = '/agent_tasks'): Promise<TestStream[]> =>
  Promise.all(
    bases.map(async (base) => {
      const stream = await openStream(`${base}/api/v1/stream${path}`, bearer(key))
      await stream.until(ofType('ready'))
      return stream
    }),
  )
const made = (input: object): Promise<MadeKey> => makeKey(apps[0] as FastifyInstance, first, input)
const revoke = ({ id }: MadeKey) => callAs(apps[0] as FastifyInstance, first, 'DELETE', `/api/v1/keys/${id}`)

test('revoking a key ends its streams and waiting polls on every instance within a second, and no others', async () => {
  const [key, other] = [await made({ role: 'reader' }), await made({ role: 'reader' })]
  const streams = await everywhere(key.key)
  const others = await everywhere(other.key)
  const polls = apps.map((app) => callAs(app, key.key, 'GET', '/api/v1/agent_tasks/changes?wait=60'))
  await revoke(key)
  const began = performance.now()
  await Promise.all(streams.map(({ ended }) => ended))
  const answers = await Promise.all(polls)
  expect(performance.now() - began).toBeLessThan(1500)
  for (const stream of streams) {
    expect(stream.events.at(-1)?.data).toMatchObject({ type: 'close', data: { reason: 'unauthorized' } })
  }
  for (const answer of answers) expectError(answer, 401, 'UNAUTHORIZED')
  await callAs(apps[0] as FastifyInstance, first, 'PUT', '/api/v1/agent_tasks/after', {
    body: bodies.agent_tasks,
  })
  for (const stream of others) {
    await stream.until(({ data }) => data.data.id === 'after')
    stream.close()
  }
  for (const stream of streams) expect(stream.changes()).toEqual([])
})

test('what was opened with a secret that is rotated away ends when its overlap is over; the new one goes on', async () => {
  const key = await made({ role: 'reader' })
  const old = await everywhere(key.key)
  const rotate = (overlap_seconds: number) =>
    callAs(apps[0] as FastifyInstance, first, 'POST', `/api/v1/keys/${key.id}/rotate`, {
      body: { overlap_seconds },
    })
  const second = (await rotate(1)).json.data.key
  const middle = await everywhere(second)
  const began = performance.now()
  await Promise.all(old.map(({ ended }) => ended))
  expect(performance.now() - began).toBeLessThan(2500)
  const third = (await rotate(0)).json.data.key
  const last = await everywhere(third)
  await Promise.all(middle.map(({ ended }) => ended))
  for (const stream of [...old, ...middle]) {
    expect(stream.events.at(-1)?.data).toMatchObject({ type: 'close', data: { reason: 'unauthorized' } })
  }
  await callAs(apps[0] as FastifyInstance, first, 'PUT', '/api/v1/agent_tasks/rotated', {
    body: bodies.agent_tasks,
  })
  for (const stream of last) {
    await stream.until(({ data }) => data.data.id === 'rotated')
    stream.close()
  }
})

test('the rows and scopes of a real key bind what it is sent', async () => {
  const scopes = { read: ['agent_*'], write: [] }
  const key = await made({ role: 'reader', scopes, rows: { session_id: 'mine' } })
  const streams = await everywhere(key.key, '')
  const put = (path: string, body: object) =>
    callAs(apps[1] as FastifyInstance, first, 'PUT', `/api/v1/${path}`, { body })
  await put('session_messages/m', { ...bodies.session_messages, session_id: 'mine' })
  await put('agent_tasks/t1', { ...bodies.agent_tasks, session_id: 'other' })
  await put('agent_tasks/t2', { ...bodies.agent_tasks, session_id: 'mine' })
  for (const stream of streams) {
    await stream.until(({ data }) => data.data.id === 't2')
    expect(stream.changes().map(({ data }) => data.data.id)).toEqual(['t2'])
    stream.close()
  }
})

test('dropping a collection is in the log as whose it was', async () => {
  const [app] = apps as [FastifyInstance]
  await callAs(app, first, 'POST', '/api/v1/collections', {
    body: { name: 'gone', schema: { type: 'object' } },
  })
  await callAs(app, first, 'PUT', '/api/v1/gone/g', { body: {} })
  await callAs(app, first, 'DELETE', '/api/v1/collections/gone?confirm=gone')
  const { json } = await callAs(app, first, 'GET', '/api/v1/audit/documents?id=g')
  const author = expect.stringMatching(/^key:[0-9A-Za-z]{12}$/)
  expect(json.data).toMatchObject([
    { op: 'delete', author, address: '127.0.0.1' },
    { op: 'insert', author },
  ])
})

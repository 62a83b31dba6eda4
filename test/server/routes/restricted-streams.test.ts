import type { FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import { createClient } from '../../../src/client/index.js'
import { ofType, openStream, type TestStream } from '../../support/event-stream.js'
import { bodies, call, create, expectError } from '../../support/http.js'
import { as, withPrincipals } from '../../support/principals.js'
import { testServer } from '../../support/server.js'

const mine = { ...bodies.agent_tasks, session_id: 'mine' }
const other = { ...bodies.agent_tasks, session_id: 'other' }
const me = as({ id: 'key:me', rows: { session_id: 'mine' } })
const ready = ofType('ready')

let app: FastifyInstance
let base: string
beforeAll(async () => {
  app = await testServer('embedded', {}, withPrincipals)
  base = await app.listen({ host: '127.0.0.1', port: 0 })
})

const open = async (path: string, rights: Record<string, string>): Promise<TestStream> => {
  const stream = await openStream(`${base}/api/v1/stream${path}`, rights)
  if (stream.status === 200) await stream.until(ready)
  return stream
}
const seen = (stream: TestStream) =>
  stream.changes().map(({ data }) => [data.type, data.data.id, data.data.session_id])
/** Writes a document everybody in the test sees, and waits until all have it: what came before has come. */
async function settled(...streams: TestStream[]): Promise<void> {
  const last = await create(app, 'agent_tasks', { ...mine, agent_id: 'last' })
  for (const stream of streams) await stream.until(({ data }) => data.data.id === last.id)
}

describe('rows', () => {
  test('streams tell what enters and leaves them, and nothing of what stays outside', async () => {
    const [restricted, all] = [await open('/agent_tasks', me), await open('/agent_tasks', as({}))]
    const a = await create(app, 'agent_tasks', mine)
    const b = await create(app, 'agent_tasks', other)
    const move = (id: string, session_id: string) =>
      call(app, 'PATCH', `/api/v1/agent_tasks/${id}`, { body: { session_id } })
    await move(a.id, 'other')
    await move(a.id, 'further')
    await move(b.id, 'mine')
    await call(app, 'DELETE', `/api/v1/agent_tasks/${a.id}`)
    await settled(restricted, all)
    expect(seen(restricted).slice(0, -1)).toEqual([
      ['insert', a.id, 'mine'],
      ['delete', a.id, 'mine'],
      ['insert', b.id, 'mine'],
    ])
    expect(seen(all)).toHaveLength(7)
    restricted.close()
    all.close()
  })

  test('principals with different rows and scopes never share what they are sent; equal ones see the same', async () => {
    const filter = encodeURIComponent('{"status":"pending"}')
    const rights = [
      me,
      as({ id: 'key:twin', rows: { session_id: 'mine' } }),
      as({ id: 'key:other', rows: { session_id: { $in: ['mine', 'other'] } } }),
      as({ rows: { session_id: 'mine', agent_id: 'last' } }),
      as({}),
    ]
    // The same request by all of them, each twice.
    const streams: TestStream[] = []
    for (const one of [...rights, ...rights]) streams.push(await open(`/agent_tasks?filter=${filter}`, one))
    await create(app, 'agent_tasks', mine)
    await create(app, 'agent_tasks', other)
    await create(app, 'agent_tasks', { ...other, session_id: 'third' })
    await settled(...streams)
    const sessions = streams.map((stream) => seen(stream).map(([, , session]) => session))
    const expected = [
      ['mine', 'mine'],
      ['mine', 'mine'],
      ['mine', 'other', 'mine'],
      ['mine'],
      ['mine', 'other', 'third', 'mine'],
    ]
    expect(sessions).toEqual([...expected, ...expected])
    for (const stream of streams) stream.close()
  })

  test('a snapshot and what is caught up from a position hold to them', async () => {
    const before = (await call(app, 'GET', '/api/v1/agent_tasks/changes')).json.position
    await create(app, 'agent_tasks', other)
    await create(app, 'agent_tasks', mine)
    const snapshot = await open('/agent_tasks?from=snapshot', me)
    const sessions = snapshot.events.flatMap(({ data }) =>
      data.snapshot === true ? [data.data.session_id] : [],
    )
    expect(new Set(sessions)).toEqual(new Set(['mine']))
    const behind = await open(`/agent_tasks?last_event_id=${before}`, me)
    expect(seen(behind).map(([, , session]) => session)).toEqual(['mine'])
    snapshot.close()
    behind.close()
  })
})

describe('scopes', () => {
  test('a stream of all collections is one of those that may be read, later ones too', async () => {
    const rights = as({ read: ['agent_*', 'late_*'] })
    const stream = await open('?from=snapshot', rights)
    for (const name of ['late_a', 'later']) {
      await call(app, 'POST', '/api/v1/collections', { body: { name, schema: { type: 'object' } } })
      await create(app, name, {})
    }
    await create(app, 'session_messages', bodies.session_messages ?? {})
    await settled(stream)
    expect(stream.changes().map(({ data }) => data.collection)).toEqual(['late_a', 'agent_tasks'])
    const collections = new Set(stream.events.map(({ data }) => data.collection))
    expect(collections).toEqual(new Set([null, 'agent_tasks', 'late_a']))
    const again = await open('?from=snapshot', rights)
    const held = again.events.flatMap(({ data }) => (data.snapshot === true ? [data.collection] : []))
    expect(new Set(held)).toEqual(new Set(['agent_tasks', 'late_a']))
    stream.close()
    again.close()
  })

  test('principals with different scopes never share what they are sent', async () => {
    const scopes = [['*'], ['agent_*'], ['session_messages'], ['agent_*', '*'], ['agent_*']]
    const streams: TestStream[] = []
    for (const read of scopes) streams.push(await open('', as({ read })))
    await create(app, 'session_messages', bodies.session_messages ?? {})
    await create(app, 'agent_tasks', mine)
    await create(app, 'session_messages', bodies.session_messages ?? {})
    const both = ['session_messages', 'agent_tasks', 'session_messages']
    const tasks = ['agent_tasks']
    const expected = [both, tasks, ['session_messages', 'session_messages'], both, tasks]
    for (const [index, stream] of streams.entries()) {
      const wanted = expected[index] ?? []
      await stream.until(() => stream.changes().length >= wanted.length)
      expect(stream.changes().map(({ data }) => data.collection)).toEqual(wanted)
      stream.close()
    }
  })

  test.each([
    ['/session_messages', { read: ['agent_tasks'] }],
    ['/nowhere', { read: ['agent_tasks'] }],
    ['?collections=agent_tasks,session_messages', { read: ['agent_tasks'] }],
    ['', { read: [] }],
  ])('%s to %j is refused', async (path, rights) => {
    expect(await open(path, as(rights))).toMatchObject({
      status: 403,
      body: expect.stringContaining('FORBIDDEN'),
    })
  })
})

describe('while it is open', () => {
  const soon = () => Date.now() + 700

  test('a stream ends with the key, says so, and the client does not come back by itself', async () => {
    const expiresAt = soon()
    const stream = await open('/agent_tasks', as({ expiresAt }))
    const lasting = await open('/agent_tasks', as({}))
    await stream.ended
    expect(Date.now() - expiresAt).toBeLessThan(1500)
    const last = stream.events.at(-1)?.data
    expect(last).toMatchObject({
      type: 'close',
      data: { reason: 'unauthorized', retry: null, position: expect.stringMatching(/^[0-9a-f]{8}-\d+$/) },
    })
    // The retry it was sent at the beginning is the last: none asks it to return.
    expect(stream.retry).toBe(2000)
    await settled(lasting)
    expect(stream.changes()).toEqual([])
    lasting.close()
  })

  test('the typed client fails with UNAUTHORIZED instead of connecting again', async () => {
    const rights = as({ expiresAt: soon() })
    const withRights: typeof fetch = (input, init) => {
      const headers = new Headers(init?.headers)
      for (const [name, value] of Object.entries(rights)) headers.set(name, value)
      return fetch(input, { ...init, headers })
    }
    const client = createClient({ url: base, fetch: withRights })
    const read = async () => {
      for await (const _event of client.stream({ collections: ['agent_tasks'] }));
    }
    await expect(read()).rejects.toMatchObject({ code: 'UNAUTHORIZED', status: 401 })
  })

  test('a waiting poll ends with the key', async () => {
    const headers = as({ expiresAt: soon() })
    const began = Date.now()
    expectError(
      await call(app, 'GET', '/api/v1/agent_tasks/changes?wait=30', { headers }),
      401,
      'UNAUTHORIZED',
    )
    expect(Date.now() - began).toBeLessThan(5000)
  })

  test('who has expired meanwhile opens nothing', async () => {
    const headers = as({ expiresAt: Date.now() - 1 })
    expect(await open('/agent_tasks', headers)).toMatchObject({ status: 401 })
    expectError(await call(app, 'GET', '/api/v1/agent_tasks/changes', { headers }), 401, 'UNAUTHORIZED')
  })
})

import { expect, test } from 'vitest'
import { createClient } from '../../src/client/index.js'
import { testServer } from '../support/server.js'
import { type Answerer, json, listening, refuse, startStub, task } from './support.js'

const made: Answerer = (response) =>
  json(response, 201, { success: true, data: { id: 't1', ...task } }, { etag: '"1"' })
/** Fails the first attempts in this way. */
const failing =
  (times: number, fail: Answerer): Answerer =>
  (response, attempt, request) =>
    (attempt <= times ? fail : made)(response, attempt, request)
const broken: Answerer = (response) => void response.destroy()
const unavailable: Answerer = (response) => refuse(response, 503, 'STORE_UNAVAILABLE', '0')
const overloaded: Answerer = (response) => refuse(response, 503, 'OVERLOADED', '0')

async function tasksOf(answerer: Answerer, options = {}) {
  const stub = await startStub(answerer)
  const client = createClient({ url: stub.url, retry: { maxDelayMs: 50 }, ...options })
  return { stub, tasks: client.collection('agent_tasks') }
}

test.each([
  ['broken connections', broken],
  ['503', unavailable],
  ['429', (response) => refuse(response, 429, 'TOO_MANY_REQUESTS')] as [string, Answerer],
])('a creation outlives %s, with one idempotency key', async (_what, fail) => {
  const { stub, tasks } = await tasksOf(failing(2, fail))
  expect((await tasks.create(task)).item.id).toBe('t1')
  expect(stub.requests).toHaveLength(3)
  const keys = new Set(stub.requests.map(({ headers }) => headers['idempotency-key']))
  expect([...keys]).toEqual([expect.stringMatching(/^[0-9a-f]{32}$/)])
})

test.each([
  ['get', (tasks) => tasks.get('t1')],
  ['put', (tasks) => tasks.put('t1', task)],
  ['delete', (tasks) => tasks.delete('t1')],
  ['a batch of creates', (tasks) => tasks.batch([{ op: 'create', item: task }])],
  [
    'a batch of puts and deletes',
    (tasks) =>
      tasks.batch([
        { op: 'put', id: 'a', item: task },
        { op: 'delete', id: 'b' },
      ]),
  ],
] as [string, Call][])('%s is repeated after a broken connection', async (_what, run) => {
  const { stub, tasks } = await tasksOf((response, attempt) =>
    attempt === 1 ? response.destroy() : json(response, 200, { success: true, data: [] }, { etag: '"1"' }),
  )
  await run(tasks)
  expect(stub.requests).toHaveLength(2)
})

type Tasks = Awaited<ReturnType<typeof tasksOf>>['tasks']
type Call = (tasks: Tasks) => Promise<unknown>

test.each([
  ['a patch', (tasks) => tasks.patch('t1', { status: 'failed' })],
  ['a conditional put', (tasks) => tasks.put('t1', task, { ifMatch: 1 })],
  ['a conditional delete', (tasks) => tasks.delete('t1', { ifMatch: 1 })],
  ['a batch with a patch', (tasks) => tasks.batch([{ op: 'patch', id: 'a', patch: {} }])],
  [
    'a batch that deletes what it creates',
    (tasks) =>
      tasks.batch([
        { op: 'delete', id: 'a' },
        { op: 'create', item: { ...task, id: 'a' } },
      ]),
  ],
] as [string, Call][])(
  '%s is not repeated when it may have been made, but when it was refused',
  async (_what, run) => {
    for (const fail of [broken, unavailable]) {
      const { stub, tasks } = await tasksOf(fail)
      await expect(run(tasks)).rejects.toMatchObject({ retryable: true })
      expect(stub.requests).toHaveLength(1)
    }
    const { stub, tasks } = await tasksOf((response, attempt) =>
      attempt === 1
        ? overloaded(response, 1, response.req)
        : json(response, 200, { data: [] }, { etag: '"1"' }),
    )
    await run(tasks)
    expect(stub.requests).toHaveLength(2)
  },
)

test('attempts are bounded', async () => {
  const { stub, tasks } = await tasksOf(broken, { retry: { attempts: 3, maxDelayMs: 20 } })
  await expect(tasks.get('x')).rejects.toMatchObject({ code: 'NETWORK', status: undefined, retryable: true })
  expect(stub.requests).toHaveLength(3)
})

test('what will not pass is not repeated, nor a strict write that stands', async () => {
  for (const [status, code] of [
    [400, 'INVALID_REQUEST'],
    [500, 'INTERNAL'],
    [504, 'WAIT_TIMEOUT'],
  ] as const) {
    const { stub, tasks } = await tasksOf((response) => refuse(response, status, code))
    await expect(tasks.create(task)).rejects.toMatchObject({ status, code })
    expect(stub.requests).toHaveLength(1)
  }
})

test('Retry-After is waited for, and a longer one than allowed gives the error', async () => {
  const { tasks } = await tasksOf(
    failing(1, (response) => refuse(response, 503, 'OVERLOADED', '1')),
    {
      retry: { maxDelayMs: 1500 },
    },
  )
  const before = performance.now()
  await tasks.create(task)
  expect(performance.now() - before).toBeGreaterThan(990)
  const far = await tasksOf((response) => refuse(response, 503, 'OVERLOADED', '3600'))
  await expect(far.tasks.create(task)).rejects.toMatchObject({ code: 'OVERLOADED', retryAfterMs: 3_600_000 })
  expect(far.stub.requests).toHaveLength(1)
})

test('a server that does not answer in time is given up, each attempt anew', async () => {
  const { stub, tasks } = await tasksOf(() => {}, { timeoutMs: 100, retry: { attempts: 2, maxDelayMs: 10 } })
  await expect(tasks.get('x')).rejects.toMatchObject({ code: 'TIMEOUT', retryable: true })
  expect(stub.requests).toHaveLength(2)
})

test('an abort ends a call, its wait and its repeats with the reason of the signal', async () => {
  const controller = new AbortController()
  const { stub, tasks } = await tasksOf(
    (response) => {
      refuse(response, 503, 'OVERLOADED', '9')
      setImmediate(() => controller.abort(new Error('enough')))
    },
    { retry: { maxDelayMs: 10_000 } },
  )
  await expect(tasks.get('x', { signal: controller.signal })).rejects.toThrow('enough')
  await expect(tasks.get('x', { signal: controller.signal })).rejects.toThrow('enough')
  expect(stub.requests).toHaveLength(1)
})

test('a page of a proxy is told as the status it has', async () => {
  const { tasks } = await tasksOf((response) => void response.writeHead(403).end('<h1>no</h1>'))
  await expect(tasks.get('x')).rejects.toMatchObject({ code: 'FORBIDDEN', status: 403 })
  const other = await tasksOf((response) => void response.writeHead(200).end('<h1>welcome</h1>'))
  await expect(other.tasks.get('x')).rejects.toMatchObject({ code: 'INVALID_ANSWER' })
})

test('a creation whose answers are lost on the way is made once', async () => {
  const url = await listening(await testServer())
  let lost = 0
  const client = createClient({
    url,
    retry: { maxDelayMs: 50 },
    // A real answer of the real server, dropped before anybody has read it.
    fetch: async (input, init) => {
      const response = await fetch(input, init)
      if (init?.method !== 'POST' || ++lost > 2) return response
      await response.body?.cancel()
      throw new TypeError('fetch failed')
    },
  })
  const { item } = await client.collection('agent_tasks').create(task)
  expect(lost).toBe(3)
  const { items } = await client.collection('agent_tasks').list()
  expect(items.map(({ id }) => id)).toEqual([item.id])
})

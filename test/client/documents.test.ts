import { beforeAll, describe, expect, test } from 'vitest'
import { type Client, createClient } from '../../src/client/index.js'
import { call } from '../support/http.js'
import { testServer } from '../support/server.js'
import { listening, task } from './support.js'

interface Task {
  id: string
  created_at: string
  updated_at: string
  session_id: string
  agent_id: string
  task_type: string
  status: string
  progress?: number
  [field: string]: unknown
}

let client: Client<{ agent_tasks: Task }>
let url: string
beforeAll(async () => {
  const app = await testServer()
  url = await listening(app)
  client = createClient({ url })
  const definition = { name: 'numbers', schema: { type: 'object', properties: { n: { type: 'number' } } } }
  expect((await call(app, 'POST', '/api/v1/collections', { body: definition })).status).toBe(201)
})
const tasks = () => client.collection('agent_tasks')
interface Numbered {
  id: string
  created_at: string
  updated_at: string
  n: number
}
const numbers = () => client.collection<Numbered>('numbers')

describe('one document', () => {
  test('is created, read, replaced, changed and deleted, with its version and position', async () => {
    const made = await tasks().create(task)
    expect(made).toMatchObject({ item: task, version: 1, created: true, position: expect.any(String) })
    const { id } = made.item
    expect(await tasks().get(id)).toEqual({ item: made.item, version: 1 })
    expect(await tasks().put(id, { ...task, status: 'running' })).toMatchObject({
      version: 2,
      created: false,
    })
    const patched = await tasks().patch(id, { progress: 50 })
    expect(patched).toMatchObject({ version: 3, item: { status: 'running', progress: 50 } })
    const pointed = await tasks().patch(id, [{ op: 'replace', path: '/status', value: 'failed' }])
    expect(pointed.item).toMatchObject({ status: 'failed', progress: 50 })
    expect(await tasks().delete(id)).toEqual({ deleted: true, position: expect.any(String) })
    expect(await tasks().delete(id)).toEqual({ deleted: false, position: undefined })
    expect(await tasks().get(id)).toBeUndefined()
  })

  test('with an id that needs encoding is found under it', async () => {
    const id = 'a/b?c#d ü%'
    await tasks().put(id, task)
    expect((await tasks().get(id))?.item.id).toBe(id)
  })

  test('is written conditionally', async () => {
    const { item } = await tasks().create({ ...task, id: 'conditional' })
    await tasks().patch(item.id, { status: 'running' }, { ifMatch: 1 })
    const late = tasks().patch(item.id, { status: 'failed' }, { ifMatch: 1 })
    await expect(late).rejects.toMatchObject({ code: 'PRECONDITION_FAILED', status: 412, retryable: false })
    const taken = tasks().put(item.id, task, { ifNoneMatch: '*' })
    await expect(taken).rejects.toMatchObject({ code: 'PRECONDITION_FAILED' })
    await expect(tasks().delete(item.id, { ifMatch: 1 })).rejects.toMatchObject({ status: 412 })
  })

  test('is read from the mirror once that has the position waited for', async () => {
    const { item, position } = await tasks().create(task)
    const read = await tasks().get(item.id, { readFrom: 'mirror', waitFor: position })
    expect(read?.item).toEqual(item)
  })
})

test('the same idempotency key makes one document', async () => {
  const options = { idempotencyKey: 'once' }
  const [first, again] = [await tasks().create(task, options), await tasks().create(task, options)]
  expect(again.item.id).toBe(first.item.id)
})

test('lists come in pages, and iterating brings each document once while others are added', async () => {
  await numbers().batch(Array.from({ length: 25 }, (_, n) => ({ op: 'create', item: { id: `n${n}`, n } })))
  const page = await numbers().list({ limit: 10, sortBy: 'n', sortOrder: 'asc', filter: { n: { $gte: 5 } } })
  expect(page).toMatchObject({ total: 20, hasMore: true, nextCursor: expect.any(String) })
  expect(page.items.map(({ n }) => n)).toEqual([5, 6, 7, 8, 9, 10, 11, 12, 13, 14])
  const seen: number[] = []
  for await (const { n } of numbers().iterate({ limit: 4, sortBy: 'n', sortOrder: 'asc', offset: 1 })) {
    seen.push(n)
    if (n === 10) await numbers().put('before', { n: -1 })
  }
  expect(seen).toEqual(Array.from({ length: 24 }, (_, n) => n + 1))
  expect(
    (await numbers().list({ count: 'none', createdAfter: new Date(Date.now() + 60_000) })).items,
  ).toEqual([])
})

test('an export brings every document, and leaving it early closes its connection', async () => {
  const ids: string[] = []
  for await (const { id } of numbers().export({ filter: { n: { $lt: 3, $gte: 0 } } })) ids.push(id)
  expect(ids).toEqual(['n0', 'n1', 'n2'])
  for await (const { id } of numbers().export()) {
    expect(id).toBe('before')
    break
  }
})

test('a batch has a result for each operation', async () => {
  const results = await numbers().batch([
    { op: 'put', id: 'b1', item: { n: 1 } },
    { op: 'patch', id: 'b1', patch: { n: 2 }, ifVersion: 7 },
    { op: 'delete', id: 'b2' },
    // @ts-expect-error: n is a number, to the compiler and to the server.
    { op: 'create', item: { n: 'x' } },
  ])
  expect(results).toMatchObject([
    { ok: true, status: 201, id: 'b1', version: 1, item: { n: 1 } },
    { ok: false, status: 412, code: 'PRECONDITION_FAILED', message: expect.any(String) },
    { ok: false, status: 404, code: 'NOT_FOUND' },
    { ok: false, status: 400, code: 'INVALID_REQUEST', details: [{ field: expect.any(String) }] },
  ])
})

test('errors tell code, status, faults and request', async () => {
  const wrong = tasks().create({ ...task, status: 'asleep' })
  await expect(wrong).rejects.toMatchObject({
    name: 'DualstoreClientError',
    code: 'INVALID_REQUEST',
    status: 400,
    retryable: false,
    details: [{ field: 'body.status', message: expect.any(String) }],
    requestId: expect.stringMatching(/\S/),
  })
  const nowhere = client.collection<Task>('nowhere').get('x')
  await expect(nowhere).rejects.toMatchObject({ code: 'COLLECTION_NOT_FOUND', status: 404 })
})

test('a key is sent, and a function is asked for it each time', async () => {
  const app = await testServer('embedded', { authBearerToken: 'sesame' })
  const guarded = await listening(app)
  const refused = createClient({ url: guarded, key: 'wrong' }).collection('agent_tasks').get('x')
  await expect(refused).rejects.toMatchObject({ code: 'UNAUTHORIZED', status: 401 })
  const keys = ['sesame', 'sesame']
  const asked = createClient({ url: guarded, key: async () => keys.pop() ?? 'none left' })
  expect(await asked.collection('agent_tasks').get('x')).toBeUndefined()
  expect(await asked.collection('agent_tasks').get('x')).toBeUndefined()
  expect(keys).toEqual([])
})

test('an address that is none is told at once', () => {
  expect(() => createClient({ url: 'localhost:3000' })).toThrow(/address of a server/)
})

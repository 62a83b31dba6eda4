import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Client, createClient, type StreamEvent, type StreamOptions } from '../../src/client/index.js'
import { type StoreProxy, startProxy } from '../support/proxy.js'
import { testServer } from '../support/server.js'
import { listening, memoryStore } from './support.js'

interface Note {
  id: string
  created_at: string
  updated_at: string
  n: number
  text?: string
}
type Collections = Record<string, Note>
type Event = StreamEvent<Collections>

// Streams go through the proxy, writes directly.
let direct: Client<Collections>
let client: Client<Collections>
let proxy: StoreProxy
beforeAll(async () => {
  const app = await testServer('embedded', { sseHeartbeatInterval: 50 })
  const url = await listening(app)
  direct = createClient({ url })
  proxy = await startProxy(url)
  client = createClient({ url: `http://127.0.0.1:${proxy.port}` })
})
afterAll(() => proxy?.close())

let made = 0
/** A collection of the test's own. */
async function notes() {
  const name = `notes_${++made}`
  const response = await fetch(`http://127.0.0.1:${proxy.port}/api/v1/collections`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', connection: 'close' },
    body: JSON.stringify({ name, schema: { type: 'object', properties: { n: { type: 'number' } } } }),
  })
  expect(response.status).toBe(201)
  await response.arrayBuffer()
  return direct.collection(name)
}

/** Where the log ends now. */
async function here(name: string): Promise<string> {
  return (await direct.collection(name).changes()).position
}

/** Takes events until one is as asked for; the last one is among them. */
async function take(events: AsyncIterable<Event>, until: (event: Event) => boolean): Promise<Event[]> {
  const taken: Event[] = []
  const iterator = events[Symbol.asyncIterator]()
  for (;;) {
    const { value, done } = await iterator.next()
    if (done) return taken
    taken.push(value)
    if (until(value)) return taken
  }
}

const isChange = (event: Event) => 'item' in event
const brief = (event: Event) => ('item' in event ? `${event.type} ${event.item.n}` : event.type)
const reads = (n: number) => (event: Event) => 'item' in event && event.item.n === n

function stream(name: string, options: StreamOptions = {}) {
  const controller = new AbortController()
  const events = client.stream({ collections: [name], signal: controller.signal, ...options })
  return { events, stop: () => controller.abort(), signal: controller.signal }
}

test('changes come in order with item, version, time and position, and leaving closes the stream', async () => {
  const { name, create, patch, delete: remove } = await notes()
  const seen: Event[] = []
  for await (const event of stream(name).events) {
    if (event.type === 'ready') {
      const { item } = await create({ n: 1 })
      await patch(item.id, { n: 2 })
      await remove(item.id)
    }
    seen.push(event)
    if (event.type === 'delete') break
  }
  expect(seen.map(brief)).toEqual(['ready', 'insert 1', 'update 2', 'delete 2'])
  expect(seen[2]).toEqual({
    type: 'update',
    collection: name,
    item: expect.objectContaining({ n: 2 }),
    version: 2,
    timestamp: expect.stringMatching(/Z$/),
    position: expect.stringMatching(/^[0-9a-f]{8}-\d+$/),
    snapshot: false,
  })
})

test('a filter is of the items: what enters it is inserted, what leaves it deleted', async () => {
  const { name, create, patch } = await notes()
  const from = await here(name)
  const { item } = await create({ n: 1 })
  for (const n of [5, 6, 2]) await patch(item.id, { n })
  const { events, stop } = stream(name, { from, filter: { n: { $gte: 5 } } })
  const seen = await take(events, ({ type }) => type === 'delete')
  expect(seen.filter(isChange).map(brief)).toEqual(['insert 5', 'update 6', 'delete 6'])
  stop()
})

test('a snapshot is followed by changes, and has a position when it is complete', async () => {
  const { name, create } = await notes()
  for (const n of [1, 2]) await create({ n })
  const { events, stop } = stream(name, { from: 'snapshot' })
  const seen = await take(events, ({ type }) => type === 'ready')
  expect(seen.map(({ type }) => type)).toEqual(['snapshot_begin', 'insert', 'insert', 'ready'])
  expect(seen[1]).toMatchObject({ snapshot: true, position: undefined })
  expect(events.position).toBeUndefined()
  await create({ n: 3 })
  const [change] = await take(events, isChange)
  expect(change).toMatchObject({ type: 'insert', item: { n: 3 }, snapshot: false })
  expect(events.position).toBe((seen[3] as { position: string }).position)
  stop()
})

test('createdAfter brings what was created since', async () => {
  const { name, create } = await notes()
  await create({ n: 1 })
  const createdAfter = new Date(Date.parse((await create({ n: 2 })).item.created_at))
  const { events, stop } = stream(name, { createdAfter, filter: { n: 2 } })
  const seen = await take(events, ({ type }) => type === 'ready')
  expect(seen.map(brief)).toEqual(['snapshot_begin', 'insert 2', 'ready'])
  stop()
})

test('connections that break lose and repeat nothing', async () => {
  const { name, create } = await notes()
  const states: string[] = []
  const { events, stop } = stream(name, {
    from: await here(name),
    onState: ({ state }) => states.push(state),
  })
  const seen: number[] = []
  for (let round = 0; round < 3; round++) {
    const last = round * 10 + 9
    for (let n = round * 10; n <= last; n++) {
      await create({ n })
      // In the midst of a round: some are on the way, some not written yet.
      if (n % 10 === 4) proxy.cut()
    }
    proxy.restore()
    for (const event of await take(events, reads(last))) if ('item' in event) seen.push(event.item.n)
  }
  expect(seen).toEqual(Array.from({ length: 30 }, (_, n) => n))
  expect(states.filter((state) => state === 'waiting').length).toBeGreaterThanOrEqual(2)
  stop()
})

test('a connection that went silent is replaced', async () => {
  const { name, create } = await notes()
  let waits = ''
  const { events, stop } = stream(name, {
    idleTimeoutMs: 400,
    onState: (state) => {
      if (state.state !== 'waiting') return
      waits = state.reason
      proxy.restore()
    },
  })
  await take(events, ({ type }) => type === 'ready')
  proxy.freeze()
  await create({ n: 1 })
  const [change] = await take(events, isChange)
  expect(change).toMatchObject({ item: { n: 1 } })
  expect(waits).toMatch(/nothing came for 400 ms/)
  stop()
})

test('a snapshot that breaks off is told to begin anew, and is whole then', async () => {
  const { name, batch, create } = await notes()
  const text = 'x'.repeat(2000)
  for (let batches = 0; batches < 4; batches++) {
    await batch(Array.from({ length: 1000 }, (_, n) => ({ op: 'create', item: { n, text } })))
  }
  const saved: string[] = []
  const store = { load: () => undefined, save: (position: string) => void saved.push(position) }
  const { events, stop } = stream(name, { from: 'snapshot', store })
  let held = new Set<string>()
  let begun = 0
  for await (const event of events) {
    if (event.type === 'snapshot_begin') {
      begun++
      held = new Set()
    }
    if ('item' in event) held.add(event.item.id)
    if (begun === 1 && held.size === 100) {
      proxy.cut()
      proxy.restore()
      await create({ n: -1 })
    }
    if (event.type === 'ready') break
  }
  expect({ begun, held: held.size }).toEqual({ begun: 2, held: 4001 })
  expect(saved).toEqual([])
  stop()
})

test('a stored position is behind what was taken: the event in hand comes again to the next run, no other', async () => {
  const { name, create } = await notes()
  const store = memoryStore()
  const from = await here(name)
  for (const n of [1, 2, 3]) await create({ n })
  for await (const event of stream(name, { from, store }).events) if (reads(2)(event)) break
  const second = stream(name, { from: 'snapshot', store })
  const seen = await take(second.events, reads(3))
  expect(seen.map(brief)).toEqual(['insert 2', 'insert 3'])
  // Heartbeats move it on too, though nothing of this collection is written.
  await direct.collection('agent_tasks').create({
    session_id: 's',
    agent_id: 'a',
    task_type: 't',
    status: 'pending',
  } as never)
  const before = await here(name)
  const beats = stream(name, { store, heartbeats: true })
  await take(beats.events, (event) => event.type === 'heartbeat' && event.position === before)
  await take(beats.events, ({ type }) => type === 'heartbeat')
  expect(store.position).toBe(before)
  second.stop()
  beats.stop()
})

test('a store that cannot save ends the iteration with its error', async () => {
  const { name } = await notes()
  const save = () => Promise.reject(new Error('disk full'))
  const { events } = stream(name, { store: { load: () => undefined, save } })
  await expect(take(events, isChange)).rejects.toThrow('disk full')
})

const WORTHLESS = '00000000-1'

test('a worthless position is an error unless it was said what to do', async () => {
  const { name } = await notes()
  const { events } = stream(name, { from: WORTHLESS })
  await expect(take(events, isChange)).rejects.toMatchObject({
    code: 'STREAM_RESET',
    retryable: false,
    extra: { reason: 'other_log', requested: WORTHLESS, position: await here(name) },
  })
})

test('a worthless position can be told and gone on from', async () => {
  const { name, create } = await notes()
  await create({ n: 1 })
  const { events, stop } = stream(name, { from: WORTHLESS, onReset: 'continue' })
  const before = await take(events, ({ type }) => type === 'ready')
  expect(before.map(({ type }) => type)).toEqual(['reset', 'ready'])
  await create({ n: 2 })
  expect((await take(events, isChange)).map(brief)).toEqual(['insert 2'])
  stop()
})

test('a worthless position can be answered with a snapshot', async () => {
  const { name, create } = await notes()
  await create({ n: 1 })
  const store = memoryStore(WORTHLESS)
  const { events, stop } = stream(name, { onReset: 'snapshot', store })
  const seen = await take(events, ({ type }) => type === 'ready')
  expect(seen.map(brief)).toEqual(['reset', 'snapshot_begin', 'insert 1', 'ready'])
  expect(store.position).toBe(WORTHLESS)
  await create({ n: 2 })
  await take(events, isChange)
  expect(store.position).toBe((seen.at(-1) as { position: string }).position)
  stop()
})

test('an abort ends the iteration at once and without an error', async () => {
  const { name } = await notes()
  const { events, stop } = stream(name)
  await take(events, ({ type }) => type === 'ready')
  const rest = take(events, () => false)
  stop()
  expect(await rest).toEqual([])
})

test('a request that the server refuses is an error', async () => {
  await expect(take(stream('nowhere').events, isChange)).rejects.toMatchObject({
    code: 'COLLECTION_NOT_FOUND',
  })
  const { name } = await notes()
  const wrong = stream(name, { filter: { n: { $near: 1 } } })
  await expect(take(wrong.events, isChange)).rejects.toMatchObject({ code: 'INVALID_FILTER', status: 400 })
})

test('changes can be polled, and waited for', async () => {
  const { create, changes } = await notes()
  const { position } = await changes()
  for (const n of [1, 2, 3]) await create({ n })
  const first = await changes({ since: position, limit: 2 })
  expect(first).toMatchObject({ changes: [{ item: { n: 1 } }, { item: { n: 2 } }], hasMore: true })
  const second = await changes({ since: first.position })
  expect(second).toMatchObject({ changes: [{ type: 'insert', item: { n: 3 } }], hasMore: false })
  const waiting = changes({ since: second.position, wait: 20 }, { timeoutMs: 1 })
  await create({ n: 4 })
  expect((await waiting).changes).toMatchObject([{ item: { n: 4 } }])
  await expect(changes({ since: WORTHLESS })).rejects.toMatchObject({
    code: 'POSITION_GONE',
    extra: { reason: 'other_log', position: expect.any(String) },
  })
})

import { expect, test } from 'vitest'
import { createHttpSink } from '../../../src/cli/client/http-sink.js'
import { loadConfig } from '../../../src/server/config/index.js'
import { openContext } from '../../../src/server/context.js'
import { DualstoreError } from '../../../src/server/errors.js'
import type { Log } from '../../../src/server/followers/contract.js'
import type { BufferLimits } from '../../../src/server/ingest/buffer.js'
import type {
  DocumentState,
  Provider,
  ProviderEvent,
  Sink,
  Touched,
} from '../../../src/server/ingest/contract.js'
import { createIngester } from '../../../src/server/ingest/ingester.js'
import { createServiceSink } from '../../../src/server/ingest/service-sink.js'
import type { Item } from '../../../src/server/schemas/item.js'
import { localAccess } from '../../../src/server/services/principal.js'
import { type TestDatabase, testDatabase } from '../../support/database.js'
import { until } from '../../support/follower.js'
import { atEndOfFile } from '../../support/leaks.js'
import { testServer } from '../../support/server.js'

const AT = '2026-01-01T00:00:00.000Z'

function event(id: string, more: Partial<ProviderEvent> & { fields?: object } = {}): ProviderEvent {
  const { fields, ...rest } = more
  const kept = rest.kept && { seq: rest.kept.seq, session_id: rest.kept.stream }
  const item = { id, event_type: 't', event_data: {}, source: 'script', created_at: AT, updated_at: AT }
  return { item: { ...item, ...kept, ...fields }, type: 't', known: true, at: 1, size: 1, ...rest }
}

/** The n-th kept event of a stream, which touches the message of that number. */
function kept(stream: string, seq: number): ProviderEvent {
  const touched = { collection: 'session_messages', id: `${stream}-${seq}`, parent: stream, removed: false }
  return event(`${stream}/${seq}`, { kept: { stream, seq }, touched })
}

function message(id: string, content = id): Item {
  return { id, session_id: 's', role: 'user', content, created_at: AT, updated_at: AT }
}

/** A second provider in a few lines: what it has, and a feed that the test feeds. */
function script() {
  const messages = new Map<string, Item>()
  const history: ProviderEvent[] = []
  const state = { isAway: false, reads: 0, histories: 0, feeds: 0 }
  let deliver: (event: ProviderEvent | undefined) => void = () => {}
  const requireThere = () => {
    if (state.isAway) throw new DualstoreError('PROVIDER_UNAVAILABLE', 'the script says so')
  }
  const stateOf = (touched: Touched): DocumentState => {
    const item = messages.get(touched.id)
    return item === undefined ? { touched } : { touched, item }
  }
  const provider: Provider = {
    id: 'script',
    where: 'here',
    events: 'opencode_events',
    check: async () => requireThere(),
    async open(signal) {
      requireThere()
      state.feeds++
      const queue: (ProviderEvent | undefined)[] = []
      let wake = () => {}
      deliver = (event) => {
        queue.push(event)
        wake()
      }
      signal.addEventListener('abort', () => deliver(undefined), { once: true })
      return (async function* () {
        for (;;) {
          while (queue.length === 0) {
            await new Promise<void>((resolve) => {
              wake = resolve
            })
          }
          const next = queue.shift()
          if (next === undefined) return
          yield next
        }
      })()
    },
    async *history(known) {
      requireThere()
      state.histories++
      yield* history.filter(({ kept }) => kept!.seq > (known.get(kept!.stream) ?? -1))
    },
    async *remainder(known) {
      for (const [id, item] of messages) {
        const touched = { collection: 'session_messages', id, parent: 'old', removed: false }
        if (!known.has('old') && id.startsWith('old')) yield { touched, item }
      }
    },
    async read(touched) {
      requireThere()
      state.reads += touched.length
      return touched.map(stateOf)
    },
  }
  return {
    provider,
    messages,
    history,
    state,
    feed: (...events: ProviderEvent[]) => {
      for (const one of events) deliver(one)
    },
  }
}

/** Stores of a test's own and a sink on them. */
async function stores(): Promise<{ database: TestDatabase; sink: Sink }> {
  const database = await testDatabase()
  const { config } = loadConfig({ given: { databaseUrl: database.url, dualWriteEnabled: false }, env: {} })
  const context = await openContext(config, quiet)
  atEndOfFile(() => context.close())
  return { database, sink: createServiceSink(context, localAccess) }
}
const quiet: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }

/** Runs an ingester in the background; ended after the file's last test, if not before. */
function started(provider: Provider, sink: Sink, limits: Partial<BufferLimits> = {}) {
  const stop = new AbortController()
  const told: { message: string; fields: object }[] = []
  const tell = (fields: object, message: string) => void told.push({ message, fields })
  const log: Log = { debug: tell, info: tell, warn: tell, error: tell }
  const ingester = createIngester({ provider, sink, log, limits: { lingerMs: 5, ...limits } })
  const running = ingester.run(stop.signal)
  running.catch(() => {})
  const end = async () => {
    stop.abort()
    await running
  }
  atEndOfFile(async () => void (await end().catch(() => {})))
  const following = () => until(() => ingester.status().state === 'following')
  return { ingester, told, end, following }
}

async function stored(database: TestDatabase, collection: string): Promise<Record<string, number>> {
  const { rows } = await database.pool.query<{ id: string; version: number }>(
    'SELECT id, version FROM dualstore.documents WHERE collection = $1 ORDER BY id',
    [collection],
  )
  return Object.fromEntries(rows.map(({ id, version }) => [id, version]))
}
const once = (provider: Provider, sink: Sink) =>
  createIngester({ provider, sink, log: quiet, once: true }).run(new AbortController().signal)

test('what the feed and the history both tell is stored once, and a second run writes nothing', async () => {
  const { database, sink } = await stores()
  const { provider, history, messages, state, feed } = script()
  for (let seq = 0; seq < 3; seq++) messages.set(`a-${seq}`, message(`a-${seq}`))
  messages.set('old-1', message('old-1'))
  history.push(kept('a', 0), kept('a', 1))
  const { ingester, end, following } = started(provider, sink)
  await following()
  history.push(kept('a', 2))
  feed(kept('a', 1), event('live'), kept('a', 2), event('live'))
  await until(() => ingester.status().events.stored === 4)
  await end()
  const all = { 'a/0': 1, 'a/1': 1, 'a/2': 1, live: 1 }
  expect(await stored(database, 'opencode_events')).toEqual(all)
  const texts = { 'a-0': 1, 'a-1': 1, 'a-2': 1, 'old-1': 1 }
  expect(await stored(database, 'session_messages')).toEqual(texts)
  expect(ingester.status()).toMatchObject({ state: 'stopped', waiting: 0, lag_ms: 0, reconnects: 0 })

  state.reads = 0
  await once(provider, sink)
  expect(await stored(database, 'opencode_events')).toEqual(all)
  expect(await stored(database, 'session_messages')).toEqual(texts)
  expect(state.reads).toBe(0)
})

test('a gap in the feed is filled from the history', async () => {
  const { database, sink } = await stores()
  const { provider, history, state, feed } = script()
  history.push(kept('a', 0))
  const { ingester, following } = started(provider, sink)
  await following()
  history.push(kept('a', 1), kept('a', 2), kept('a', 3))
  feed(kept('a', 3))
  await until(() => ingester.status().events.stored === 4)
  expect(Object.keys(await stored(database, 'opencode_events'))).toEqual(['a/0', 'a/1', 'a/2', 'a/3'])
  expect(state).toMatchObject({ feeds: 1, histories: 2 })
})

test('a stream whose stored events have a gap is read again as a whole', async () => {
  const { database, sink } = await stores()
  const { provider, history } = script()
  history.push(kept('a', 0), kept('a', 1), kept('a', 2), kept('b', 0), kept('b', 1))
  await once(provider, sink)
  // Of one the middle is lost, of the other the beginning was deleted on purpose.
  await sink.remove('opencode_events', 'a/1')
  await sink.remove('opencode_events', 'b/0')
  await once(provider, sink)
  expect(Object.keys(await stored(database, 'opencode_events'))).toEqual(['a/0', 'a/1', 'a/2', 'b/1'])
})

test('an event is stored only behind the document it speaks of, unless the provider does not keep it', async () => {
  const { database, sink } = await stores()
  const { provider, history, messages, state, feed } = script()
  const { ingester, following } = started(provider, sink)
  await following()
  state.isAway = true
  feed(event('live'), kept('a', 0))
  await until(() => ingester.status().events.stored === 1)
  expect(await stored(database, 'opencode_events')).toEqual({ live: 1 })

  messages.set('a-0', message('a-0'))
  history.push(kept('a', 0))
  state.isAway = false
  await until(() => ingester.status().events.stored === 2)
  expect(await stored(database, 'opencode_events')).toEqual({ 'a/0': 1, live: 1 })
  expect(await stored(database, 'session_messages')).toEqual({ 'a-0': 1 })
  expect(ingester.status().reconnects).toBeGreaterThan(0)
})

test('a document is written when it differs by value, and deleted when an event says so', async () => {
  const { database, sink } = await stores()
  const { provider, messages, feed } = script()
  messages.set('a-0', message('a-0'))
  const { ingester, following } = started(provider, sink)
  await following()
  const next = async (seq: number, removed = false) => {
    const touched = { collection: 'session_messages', id: 'a-0', parent: 'a', removed }
    feed({ ...kept('a', seq), touched })
    await until(() => ingester.status().events.stored === seq + 1)
  }
  await next(0)
  await next(1)
  expect(await stored(database, 'session_messages')).toEqual({ 'a-0': 1 })
  messages.set('a-0', message('a-0', 'changed'))
  await next(2)
  expect(await stored(database, 'session_messages')).toEqual({ 'a-0': 2 })
  // Gone without an event that says so, as with its whole session: what is stored stays.
  messages.delete('a-0')
  await next(3)
  expect(await stored(database, 'session_messages')).toEqual({ 'a-0': 2 })
  await next(4, true)
  expect(await stored(database, 'session_messages')).toEqual({})
  expect(ingester.status().messages).toEqual({ written: 2, unchanged: 1, removed: 1, refused: 0 })
})

test('a store that is away stops the feed when the buffer is full, and nothing kept is lost', async () => {
  const { database, sink: real } = await stores()
  let isAway = false
  const sink: Sink = {
    ...real,
    add: async (collection, items) => {
      if (isAway) throw new DualstoreError('STORE_UNAVAILABLE', 'away')
      return real.add(collection, items)
    },
  }
  const { provider, history, state, feed } = script()
  const limits = { maxEvents: 5, batchEvents: 2, patienceMs: 20 }
  const { ingester, told, following } = started(provider, sink, limits)
  await following()
  isAway = true
  const burst = Array.from({ length: 20 }, (_, seq) => kept('a', seq))
  history.push(...burst)
  feed(...burst)
  await until(() => ingester.status().state === 'waiting')
  await until(() => told.some(({ message }) => message.startsWith('the store is away')))
  expect(ingester.status().waiting).toBeLessThanOrEqual(7)
  isAway = false
  await until(() => ingester.status().events.stored === 20)
  expect(Object.keys(await stored(database, 'opencode_events')).length).toBe(20)
  expect(state.feeds).toBeGreaterThan(1)
  expect(told.filter(({ message }) => message.startsWith('the store is away')).length).toBe(1)
})

test('a type that is not known is stored and told once', async () => {
  const { sink } = await stores()
  const { provider, feed } = script()
  const { ingester, told, following } = started(provider, sink)
  await following()
  feed(event('1', { type: 'new.thing', known: false }), event('2', { type: 'new.thing', known: false }))
  await until(() => ingester.status().events.stored === 2)
  expect(ingester.status()).toMatchObject({
    unknown_types: ['new.thing'],
    events: { by_type: { 'new.thing': 2 } },
  })
  expect(told.filter(({ fields }) => 'type' in fields)).toHaveLength(1)
})

test('what no store can hold is left out alone and told', async () => {
  const { database, sink } = await stores()
  const { provider, feed } = script()
  const { ingester, told, following } = started(provider, sink)
  await following()
  feed(event('a'), event('b', { fields: { event_data: 'no object' } }), event('c'))
  await until(() => ingester.status().events.stored === 2)
  expect(await stored(database, 'opencode_events')).toEqual({ a: 1, c: 1 })
  expect(ingester.status().events.refused).toBe(1)
  expect(told.at(-1)?.fields).toMatchObject({ id: 'b', reason: expect.stringContaining('event_data') })
})

test('over HTTP, what is larger than a server takes is left out alone', async () => {
  const app = await testServer('embedded', { bodyLimitBytes: 65_536 })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const sink = await createHttpSink({ url, key: undefined })
  const { provider, history } = script()
  const large = { event_data: { text: 'x'.repeat(1_000_000) } }
  history.push(kept('a', 0), event('a/1', { kept: { stream: 'a', seq: 1 }, fields: large }), kept('a', 2))
  await once(provider, sink)
  expect([...(await sink.find('opencode_events', ['a/0', 'a/1', 'a/2'])).keys()]).toEqual(['a/0', 'a/2'])
  expect(await sink.remove('opencode_events', 'a/0')).toBe(true)
  expect(await sink.remove('opencode_events', 'a/0')).toBe(false)
})

test('a refused password ends the run at once', async () => {
  const { sink } = await stores()
  const { provider } = script()
  const refusing: Provider = {
    ...provider,
    check: async () => {
      throw new DualstoreError('UNAUTHORIZED', 'no')
    },
  }
  const { ingester } = started(refusing, sink)
  await until(() => ingester.status().state === 'stopped')
  await expect(once(refusing, sink)).rejects.toMatchObject({ code: 'UNAUTHORIZED' })
})

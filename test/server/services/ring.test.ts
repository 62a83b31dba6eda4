import { setImmediate as immediate } from 'node:timers/promises'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { everything } from '../../../src/server/filter/ast.js'
import { LogEntry, type Segment, type Tail, type TailListener } from '../../../src/server/followers/tail.js'
import { StreamClient } from '../../../src/server/services/streams/client.js'
import { createView } from '../../../src/server/services/streams/events.js'
import { createHub } from '../../../src/server/services/streams/hub.js'
import { principalOf } from '../../support/principals.js'

const EPOCH = '5f0c2a91'
const COLLECTIONS = ['agent_tasks', 'session_messages']
/** Of which a single write to a client takes no more than two. */
const LARGE = JSON.stringify({ text: 'x'.repeat(40_000) })

/** A log that grows when the test says so, in the middle of a write to a client too. */
function grownByHand() {
  const entries: LogEntry[] = []
  /** Changes up to here have to be loaded. */
  let forgotten = 0
  let listener: TailListener | undefined
  const commit = (collection: string, text = '{}') => {
    const seq = entries.length + 1
    const change = { seq, collection, id: `${seq}`, op: 'insert', version: 1, text, at: 0 } as const
    entries.push(new LogEntry({ ...change, previousText: null, author: null }))
  }
  const behind = (after: number): Segment => ({ after, last: entries.length, entries: entries.slice(after) })
  const head = () => ({ epoch: EPOCH, position: entries.length, floor: 0 })
  const tail: Tail = {
    id: 'by hand',
    epoch: EPOCH,
    get position() {
      return entries.length
    },
    run() {},
    async stop() {},
    follow(one) {
      listener = one
      one.advanced(entries.length)
      return () => {
        listener = undefined
      }
    },
    head: async () => head(),
    inMemory: (after) => (after >= forgotten && after < entries.length ? behind(after) : undefined),
    load: async (after) => behind(after),
  }
  return {
    tail,
    head,
    forget() {
      forgotten = entries.length
    },
    write(collection: string, text = '{}') {
      commit(collection, text)
      listener?.advanced(entries.length)
    },
    /** Without anybody reading it yet. */
    commit,
    read: () => listener?.advanced(entries.length),
    /** Positions behind `after` of the changes of some collections. */
    positions: (after: number, collections: readonly string[]) =>
      behind(after).entries.flatMap(({ change }) =>
        collections.includes(change.collection) ? [change.seq] : [],
      ),
  }
}

/** Clients of a log, whose sockets are the test's: it is asked with each write of changes whether more may come. */
function hubOf(log: ReturnType<typeof grownByHand>) {
  const quiet = { debug() {}, info() {}, warn() {}, error() {} }
  const limits = { maxClients: 1000, maxClientsPerOwner: 1000 }
  const hub = createHub({ tail: log.tail, heartbeatMs: 60_000, log: quiet, now: () => 0, ...limits })
  const connect = (
    collections: readonly string[],
    onChanges: (positions: number[]) => boolean,
    began = log.head().position,
  ) => {
    const sent: number[] = []
    const events: string[] = []
    const write = (bytes: Buffer): boolean => {
      events.push(...[...bytes.toString().matchAll(/^event: (\w+)$/gm)].map(([, name]) => name ?? ''))
      const positions = [...bytes.toString().matchAll(/^id: \w+-(\d+)$/gm)].map((found) => Number(found[1]))
      sent.push(...positions)
      return positions.length === 0 || onChanges(positions)
    }
    const client = new StreamClient(hub.hub, {
      id: 'one',
      owner: 'somebody',
      view: createView({ collections, filter: everything, format: 'named', principal: principalOf({}) }),
      sink: { write, end() {}, destroy() {} },
      position: began,
    })
    hub.add(client)
    client.start({ position: began, head: log.head().position, resumes: false }, undefined)
    return { client, sent, events, due: () => log.positions(began, collections) }
  }
  return { hub, connect }
}

describe('a change that comes in the middle of a round', () => {
  test('goes on from there: to those not yet met with what they were due, to the others behind it', async () => {
    const log = grownByHand()
    const { hub, connect } = hubOf(log)
    const writes: string[] = []
    for (const name of ['first', 'second', 'third']) {
      connect(COLLECTIONS, (positions) => {
        writes.push(`${name} ${positions}`)
        if (writes.length === 2) log.write('agent_tasks')
        return true
      })
    }
    await immediate()
    log.write('agent_tasks')
    await expect.poll(() => writes.length).toBe(5)
    expect(writes).toEqual(['first 1', 'second 1', 'third 1,2', 'first 2', 'second 2'])
    hub.close()
  })
})

test('who begins where the tail still stands, with more behind it, is told when it is ready', async () => {
  const log = grownByHand()
  const { hub, connect } = hubOf(log)
  connect(COLLECTIONS, () => true)
  log.commit('agent_tasks')
  const { events } = connect(COLLECTIONS, () => true, 0)
  await immediate()
  log.read()
  await expect.poll(() => events).toEqual(['connection', 'insert', 'ready'])
  hub.close()
})

type Event = 'nothing' | 'write' | 'much' | 'full' | 'come' | 'go' | 'forget'
const event = fc.oneof(
  { weight: 4, arbitrary: fc.constant<Event>('nothing') },
  { weight: 3, arbitrary: fc.constant<Event>('write') },
  fc.constantFrom<Event[]>('much', 'full', 'come', 'go', 'forget'),
)

test('whatever happens on the way, every client is sent all that is due to it, in order, once', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(event, { minLength: 1, maxLength: 80 }), async (events) => {
      const log = grownByHand()
      const { hub, connect } = hubOf(log)
      const clients: ReturnType<typeof connect>[] = []
      const come = () => {
        // Of both views, and of the one that sees all.
        const collections = [COLLECTIONS, ['agent_tasks'], ['session_messages']][clients.length % 3] ?? []
        const one = connect(collections, () => {
          const happens = events.pop()
          if (happens === 'write') log.write(COLLECTIONS[events.length % 2] ?? '')
          if (happens === 'much') for (let count = 0; count < 4; count++) log.write('agent_tasks', LARGE)
          if (happens === 'come') come()
          if (happens === 'forget') log.forget()
          if (happens === 'go') one.client.gone()
          if (happens === 'full') setImmediate(() => one.client.drained())
          return happens !== 'full'
        })
        clients.push(one)
      }
      for (let count = 0; count < 5; count++) come()
      const behind = () =>
        clients.some(({ client }) => !client.closed && client.position < log.head().position)
      do {
        await immediate()
        if (!behind()) for (const collection of COLLECTIONS) log.write(collection)
      } while (events.length > 0 && hub.clients > 0)
      while (behind()) await immediate()
      for (const { client, sent, due } of clients) {
        if (client.closed) expect(sent).toEqual(due().slice(0, sent.length))
        else expect(sent).toEqual(due())
      }
      hub.close()
    }),
  )
})

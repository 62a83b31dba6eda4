import type { ServerResponse } from 'node:http'
import { expect, test } from 'vitest'
import { createClient, type StreamOptions, type StreamState } from '../../src/client/index.js'
import { type Answerer, refuse, startStub } from './support.js'

const EPOCH = '5f0c2a91'

function begin(response: ServerResponse, retryMs = 10): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' }).write(`retry: ${retryMs}\n\n`)
  send(response, 'connection', { client_id: 'c' })
}

function send(response: ServerResponse, type: string, data: object, more = ''): void {
  response.write(`${more}event: ${type}\ndata: ${JSON.stringify({ type, collection: 'c', data })}\n\n`)
}

function sendChange(response: ServerResponse, n: number): void {
  send(response, 'insert', { id: `i${n}`, n }, `id: ${EPOCH}-${n}\n`)
}

/** Follows a stub that answers each connection in its own way, until a change has this number. */
async function follow(answer: Answerer, until: number, options: StreamOptions = {}) {
  const stub = await startStub(answer)
  const states: StreamState[] = []
  const events = createClient({ url: stub.url }).stream({
    onState: (state) => states.push(state),
    ...options,
  })
  const seen: number[] = []
  for await (const event of events) {
    if (!('item' in event)) continue
    const { n } = event.item as unknown as { n: number }
    seen.push(n)
    if (n === until) break
  }
  return { requests: stub.requests, states, seen }
}

test('a stream that the server closes goes on from its position, after the time the server said', async () => {
  const { requests, states, seen } = await follow((response, attempt) => {
    begin(response, 5000)
    sendChange(response, attempt)
    if (attempt === 2) return
    send(response, 'close', { reason: 'shutting_down', position: `${EPOCH}-7`, retry: 30 })
    response.end()
  }, 2)
  expect(seen).toEqual([1, 2])
  expect(requests.map(({ headers }) => headers['last-event-id'])).toEqual([undefined, `${EPOCH}-7`])
  expect(states).toContainEqual({ state: 'waiting', delayMs: 30, reason: 'shutting_down' })
})

test('a server that is overloaded, down or in trouble is tried again, not before it asks for', async () => {
  const { requests, states } = await follow((response, attempt) => {
    if (attempt === 1) return refuse(response, 503, 'OVERLOADED', '1')
    if (attempt === 3) return refuse(response, 500, 'INTERNAL')
    if (attempt === 4) return void response.destroy()
    begin(response)
    if (attempt === 2) return void response.end()
    sendChange(response, 1)
  }, 1)
  expect(requests).toHaveLength(5)
  const pauses = states.flatMap((state) => (state.state === 'waiting' ? [state.delayMs] : []))
  expect(pauses[0]).toBeGreaterThanOrEqual(1000)
})

test('pauses grow with failures, and start small again after a connection that brought something', async () => {
  const { states } = await follow((response, attempt) => {
    if (attempt > 1 && attempt < 9) return void response.destroy()
    begin(response, 1)
    sendChange(response, attempt)
    response.end()
  }, 10)
  const pauses = states.flatMap((state) => (state.state === 'waiting' ? [state.delayMs] : []))
  expect(pauses).toHaveLength(9)
  for (const [failures, pause] of pauses.slice(0, 8).entries())
    expect(pause).toBeLessThanOrEqual(1 + 2 ** failures)
  expect(pauses[8]).toBeLessThanOrEqual(2)
})

test('a snapshot that the server closes has no position to come back to', async () => {
  const { requests, seen } = await follow(
    (response, attempt) => {
      begin(response)
      send(response, 'insert', { n: attempt })
      send(response, 'heartbeat', { position: `${EPOCH}-3` })
      if (attempt === 2) return
      send(response, 'close', { reason: 'too_slow', position: null, retry: 1 })
      response.end()
    },
    2,
    { from: 'snapshot' },
  )
  expect(seen).toEqual([1, 2])
  expect(requests.map(({ url, headers }) => [url, headers['last-event-id']])).toEqual([
    ['/api/v1/stream?from=snapshot', undefined],
    ['/api/v1/stream?from=snapshot', undefined],
  ])
})

test('events without names are known by their type', async () => {
  const { seen } = await follow((response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const unnamed = (type: string, data: object, id = '') =>
      response.write(`${id}data: ${JSON.stringify({ type, collection: 'c', data })}\n\n`)
    unnamed('connection', { client_id: 'c' })
    unnamed('insert', { id: 'i1', n: 1 }, `id: ${EPOCH}-1\n`)
  }, 1)
  expect(seen).toEqual([1])
})

test('collections and selection are asked for, and the key each time', async () => {
  const stub = await startStub((response, attempt) => {
    begin(response)
    sendChange(response, attempt)
    response.end()
  })
  const keys = ['second', 'first']
  const client = createClient({ url: `${stub.url}/behind/`, key: () => keys.pop() ?? 'none left' })
  const events = client.stream({ collections: ['a', 'b'], sessionId: 's', filter: { n: { $gt: 1 } } })
  for await (const event of events) if ('item' in event && event.position === `${EPOCH}-2`) break
  const [first, second] = stub.requests
  const url = new URL(first?.url ?? '', stub.url)
  expect(url.pathname).toBe('/behind/api/v1/stream')
  expect(Object.fromEntries(url.searchParams)).toEqual({
    collections: 'a,b',
    session_id: 's',
    filter: '{"n":{"$gt":1}}',
  })
  expect(first?.headers.authorization).toBe('Bearer first')
  expect(second?.headers).toMatchObject({ authorization: 'Bearer second', 'last-event-id': `${EPOCH}-1` })
})

test.each([
  [
    'another content type',
    (response) => void response.writeHead(200, { 'content-type': 'text/html' }).end('hi'),
  ],
  [
    'an event that is not JSON',
    (response) => {
      begin(response)
      response.write('event: insert\ndata: {"type"\n\n')
    },
  ],
] as [string, Answerer][])('%s is no stream of this server, and an error', async (_what, answer) => {
  await expect(follow(answer, 1)).rejects.toMatchObject({ code: 'INVALID_ANSWER' })
})

test('events of a kind that is not known yet are passed over', async () => {
  const { seen } = await follow((response) => {
    begin(response)
    send(response, 'novelty', {})
    sendChange(response, 1)
  }, 1)
  expect(seen).toEqual([1])
})

test('nothing is read ahead of a consumer that takes its time', async () => {
  const EVENT = 64 * 1024
  let written = 0
  let full: (() => void) | undefined
  const stuck = new Promise<void>((resolve) => {
    full = resolve
  })
  const stub = await startStub((response) => {
    begin(response)
    let quiet: NodeJS.Timeout | undefined
    const pump = () => {
      clearTimeout(quiet)
      // A client that reads ahead keeps draining; one that does not leaves the socket full.
      quiet = setTimeout(() => full?.(), 500)
      do {
        written++
        send(response, 'insert', { n: written, text: 'x'.repeat(EVENT) }, `id: ${EPOCH}-${written}\n`)
      } while (!response.writableNeedDrain && written < 5000)
    }
    response.on('drain', pump).on('close', () => clearTimeout(quiet))
    pump()
  })
  const events = createClient({ url: stub.url }).stream()
  for await (const event of events) {
    if (!('item' in event)) continue
    await stuck
    break
  }
  // What the sockets of both sides and one chunk hold; 5,000 events would be 320 MB.
  expect(written * EVENT).toBeLessThan(32 * 1024 * 1024)
})

import { once } from 'node:events'
import { type AddressInfo, connect, type Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import { bodies, call } from '../support/http.js'
import { testServer } from '../support/server.js'

const TASKS = '/api/v1/agent_tasks'
/** Far more than every limit below, far less than a client that is waited for. */
const SOON_MS = 10_000

let app: FastifyInstance
let port: number
beforeAll(async () => {
  app = await testServer('embedded', {
    headersTimeoutMs: 400,
    bodyIdleTimeoutMs: 400,
    bodyMinBytesPerSecond: 50,
    answerIdleTimeoutMs: 2500,
    headerLimitBytes: 8192,
    urlLimitBytes: 4096,
    maxConnections: 20,
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  port = (app.server.address() as AddressInfo).port
})

/** A client that can be made to behave badly; everything it is sent. */
interface Client {
  socket: Socket
  text(): string
  /** Resolves when the server has closed the connection. */
  closed: Promise<unknown>
}

async function client(): Promise<Client> {
  const socket = connect(port, '127.0.0.1')
  let text = ''
  socket.setEncoding('latin1').on('data', (part: string) => {
    text += part
  })
  socket.on('error', () => {})
  const closed = once(socket, 'close')
  await once(socket, 'connect')
  return { socket, text: () => text, closed }
}

/** Sends a byte every 50 ms until the server has had enough. */
async function trickle({ socket, closed }: Client, byte: string): Promise<void> {
  const timer = setInterval(() => socket.write(byte), 50)
  const late = setTimeout(() => socket.destroy(new Error('it was never ended')), SOON_MS)
  try {
    await closed
    expect(socket.errored?.message).not.toBe('it was never ended')
  } finally {
    clearInterval(timer)
    clearTimeout(late)
  }
}

const post = (length: number) =>
  `POST ${TASKS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\n\r\n`
const alive = async () => expect((await call(app, 'GET', '/health/live')).status).toBe(200)

describe('a slow client is ended', () => {
  test('that connects and says nothing', async () => {
    const one = await client()
    await one.closed
    await alive()
  })

  test('that never finishes its head', async () => {
    const one = await client()
    one.socket.write(`GET ${TASKS} HTTP/1.1\r\nhost: x\r\nx-a: `)
    await one.closed
    expect(one.text()).toMatch(/^HTTP\/1\.1 408 .*"code":"REQUEST_TIMEOUT"/s)
  })

  test('that sends its head a byte at a time', async () => {
    const one = await client()
    one.socket.write(`GET ${TASKS} HTTP/1.1\r\nhost: x\r\nx-a: `)
    await trickle(one, 'a')
    expect(one.text()).toContain('408')
  })

  test('that stops in the middle of a body', async () => {
    const one = await client()
    one.socket.write(`${post(100)}{"session_id":`)
    await one.closed
    expect(one.text()).toMatch(/^HTTP\/1\.1 408 .*"code":"REQUEST_TIMEOUT"/s)
  })

  test('that sends its body a byte at a time, in an import and in chunks too', async () => {
    const heads = [
      post(100_000),
      `POST ${TASKS}/import HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ncontent-length: 99999\r\n\r\n`,
    ]
    for (const head of heads) {
      const one = await client()
      one.socket.write(head)
      await trickle(one, ' ')
      expect(one.text(), head).toContain('408')
    }
    const chunked = await client()
    chunked.socket.write(
      `POST ${TASKS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n`,
    )
    await trickle(chunked, '1\r\n \r\n'.slice(0, 1))
    await alive()
  })

  test('that never reads its answer', { timeout: 90_000 }, async () => {
    // More than the buffers of both ends hold.
    const big = { ...bodies.agent_tasks, input_data: { text: 'x'.repeat(900_000) } }
    const made = await call(app, 'POST', `${TASKS}/import`, {
      headers: { 'content-type': 'application/x-ndjson' },
      body: `${JSON.stringify(big)}\n`.repeat(20),
    })
    expect(made.json.data.created).toBe(20)
    for (const path of [`${TASKS}?limit=1000`, `${TASKS}/export`]) {
      const one = await client()
      one.socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`)
      await Promise.race([once(one.socket, 'data'), one.closed])
      expect(one.socket.bytesRead).toBeGreaterThan(0)
      one.socket.pause()
      await expect.poll(openConnections, { timeout: SOON_MS }).toBe(0)
      one.socket.destroy()
    }
  })
})

test('a client that is merely unhurried is served', async () => {
  const body = JSON.stringify(bodies.agent_tasks)
  const one = await client()
  one.socket.write(post(body.length))
  for (let at = 0; at < body.length; at += 30) {
    one.socket.write(body.slice(at, at + 30))
    await new Promise((resolve) => setTimeout(resolve, 150))
  }
  await expect.poll(one.text).toContain('201 Created')
  one.socket.destroy()
})

test('an import goes on for far longer than any of these times', async () => {
  const one = await client()
  one.socket.write(
    `POST ${TASKS}/import HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n`,
  )
  const line = `${JSON.stringify(bodies.agent_tasks)}\n`
  for (let count = 0; count < 15; count++) {
    one.socket.write(`${line.length.toString(16)}\r\n${line}\r\n`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  one.socket.write('0\r\n\r\n')
  await expect.poll(one.text).toContain('"created":15')
  one.socket.destroy()
})

test('requests one behind the other on a connection are answered in order', async () => {
  const one = await client()
  const get = (path: string) => `GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`
  one.socket.write(`${get('/health/live')}${get('/nothing')}${get(`${TASKS}?limit=1`)}${get('/health/live')}`)
  await expect
    .poll(() => [...one.text().matchAll(/HTTP\/1\.1 (\d+)/g)].map((found) => found[1]))
    .toEqual(['200', '404', '200', '200'])
  one.socket.destroy()
})

test('an HTTP/1.0 client is answered', async () => {
  const one = await client()
  one.socket.write('GET /health/live HTTP/1.0\r\n\r\n')
  await one.closed
  expect(one.text()).toMatch(/^HTTP\/1\.1 200 .*\{"status":"ok"\}$/s)
})

test('a long URL is 414, and a long head 431', async () => {
  const long = await client()
  long.socket.write(`GET /${'x'.repeat(5000)} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`)
  await long.closed
  expect(long.text()).toMatch(/^HTTP\/1\.1 414 .*"code":"URI_TOO_LONG"/s)
  const head = await client()
  head.socket.write(`GET / HTTP/1.1\r\nhost: x\r\nx-a: ${'x'.repeat(9000)}\r\n\r\n`)
  await head.closed
  expect(head.text()).toMatch(/^HTTP\/1\.1 431 .*"code":"HEADERS_TOO_LARGE"/s)
})

test('connections beyond the limit are closed at once, and the others are served', async () => {
  await expect.poll(openConnections, { timeout: SOON_MS }).toBe(0)
  const clients = await Promise.all(Array.from({ length: 25 }, client))
  await expect.poll(() => clients.filter(({ socket }) => socket.readyState === 'closed').length).toBe(5)
  const [open] = clients.filter(({ socket }) => socket.readyState === 'open')
  open?.socket.write('GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n')
  await expect.poll(() => open?.text()).toContain('200 OK')
  for (const { socket } of clients) socket.destroy()
})

function openConnections(): Promise<number> {
  return new Promise((resolve, reject) => {
    app.server.getConnections((error, count) => (error ? reject(error) : resolve(count)))
  })
}

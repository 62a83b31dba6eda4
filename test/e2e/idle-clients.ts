import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, expect, test } from 'vitest'
import { testDatabase } from '../support/database.js'
import { residentMb } from '../support/resident.js'
import { startServer } from '../support/serve.js'
import { task } from '../support/tasks.js'

// npm run test:clients. CLIENTS changes their number; twice as many files must be allowed (ulimit -n), half in each process.
const clients = Number(process.env.CLIENTS ?? 10_000)
const IDLE_MS = 20_000
const WRITES = 20
/** A client's share of the server's memory, in KiB. */
const TARGET = 20
const CONNECTING_AT_ONCE = 200
const report: Record<string, string | number> = {}

interface Client {
  socket: Socket
  /** Ids of changes it has been sent. */
  changes: number
  ready: Promise<void>
}

test(`${clients} idle clients on one process within the memory target, each told of every write`, async () => {
  const { url: databaseUrl } = await testDatabase()
  const server = await startServer({
    DATABASE_URL: databaseUrl,
    DUAL_WRITE_ENABLED: 'false',
    DUALSTORE_STREAM_MAX_CONNECTIONS: String(clients),
    DUALSTORE_STREAM_MAX_CONNECTIONS_PER_ADDRESS: String(clients),
  })
  const open: Client[] = []
  try {
    const before = await residentMb(server.pid)
    const began = performance.now()
    for (let count = 0; count < clients; count += CONNECTING_AT_ONCE) {
      const wave = Array.from({ length: Math.min(CONNECTING_AT_ONCE, clients - count) }, () =>
        connectTo(server.url),
      )
      open.push(...wave)
      await Promise.all(wave.map(({ ready }) => ready))
    }
    report['all connected after ms'] = Math.round(performance.now() - began)
    await delay(IDLE_MS)
    const idle = await residentMb(server.pid)
    report['KiB for each client'] = Number((((idle - before) * 1024) / clients).toFixed(1))

    const writing = performance.now()
    for (let number = 0; number < WRITES; number++) {
      const answer = await fetch(`${server.url}/api/v1/agent_tasks`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', connection: 'close' },
        body: JSON.stringify(task),
      })
      expect(answer.status).toBe(201)
      await answer.arrayBuffer()
    }
    for (
      const deadline = Date.now() + 60_000;
      open.some(({ changes }) => changes < WRITES);
      await delay(50)
    ) {
      if (Date.now() > deadline) break
    }
    report[`all told of ${WRITES} writes after ms`] = Math.round(performance.now() - writing)
    // What was told twice would come at once behind it.
    await delay(500)
    report['MiB before, idle, after the writes'] = `${before}, ${idle}, ${await residentMb(server.pid)}`
    expect(open.filter(({ changes }) => changes !== WRITES)).toHaveLength(0)
    expect(report['KiB for each client']).toBeLessThanOrEqual(TARGET)
  } finally {
    for (const { socket } of open) socket.destroy()
    await server.kill9()
  }
})

afterAll(() => console.table(report))

/** All sockets read into the same memory. */
const memory = Buffer.allocUnsafe(64 * 1024)

function connectTo(url: string): Client {
  const { hostname, port, host } = new URL(url)
  let found: () => void = () => {}
  let failed: (error: Error) => void = () => {}
  const client: Omit<Client, 'socket'> = {
    changes: 0,
    ready: new Promise<void>((resolve, reject) => {
      found = resolve
      failed = reject
    }),
  }
  const onBytes = (length: number): boolean => {
    const text = memory.toString('latin1', 0, length)
    if (text.includes('event: ready')) found()
    client.changes += text.split('event: insert').length - 1
    return true
  }
  const socket = connect({
    host: hostname,
    port: Number(port),
    onread: { buffer: memory, callback: onBytes },
  })
  socket.on('error', failed)
  socket.once('close', () => failed(new Error('a stream has ended')))
  socket.write(
    `GET /api/v1/stream/agent_tasks HTTP/1.1\r\nHost: ${host}\r\nAccept: text/event-stream\r\n\r\n`,
  )
  return Object.assign(client, { socket })
}

import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** A loopback TCP proxy that stands for the network between a server and a store. */
export interface StoreProxy {
  port: number
  /** The given connection string, through the proxy. */
  through(url: string): string
  /** Breaks every connection and refuses new ones. */
  cut(): void
  /** Takes connections and bytes, and passes nothing on: a server that is frozen, or a network that swallows. */
  freeze(): void
  /** Passes everything on, this many milliseconds late. */
  slow(delayMs: number): void
  /** Passes on a byte at a time, one every so many milliseconds. */
  trickle(everyMs: number): void
  /** Leads new connections to another server, as a name does that is given to it. Those that stand are kept. */
  retarget(url: string): void
  /** Works again. Connections that were frozen go on. */
  restore(): void
  close(): Promise<void>
}

export async function startProxy(target: string): Promise<StoreProxy> {
  let goal = new URL(target)
  const sockets = new Set<Socket>()
  let mode: 'open' | 'cut' | 'frozen' = 'open'
  let delayMs = 0
  let byteMs = 0
  /** One way of a connection: chunks one after the other, late or in small pieces when that is asked for. */
  const pass = (from: Socket, to: Socket) => {
    let passing = Promise.resolve()
    from.on('data', (bytes) => {
      const [after, every] = [delayMs, byteMs]
      passing = passing.then(async () => {
        if (after > 0) await delay(after)
        let sent = 0
        for (; every > 0 && mode === 'open' && byteMs > 0 && sent < bytes.length && !to.destroyed; sent++) {
          to.write(bytes.subarray(sent, sent + 1))
          await delay(every)
        }
        to.write(bytes.subarray(sent))
      })
    })
  }
  const keep = (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    socket.on('error', () => {})
    if (mode === 'frozen') socket.pause()
  }
  const server = createServer((client) => {
    if (mode === 'cut') return client.resetAndDestroy()
    const upstream = connect(Number(goal.port), goal.hostname)
    keep(client)
    keep(upstream)
    pass(client, upstream)
    pass(upstream, client)
    client.once('close', () => upstream.destroy())
    upstream.once('close', () => client.destroy())
    if (mode === 'frozen') for (const socket of [client, upstream]) socket.pause()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  return {
    port,
    through(url) {
      const proxied = new URL(url)
      proxied.hostname = '127.0.0.1'
      proxied.port = String(port)
      return proxied.href
    },
    cut() {
      mode = 'cut'
      for (const socket of sockets) socket.resetAndDestroy()
    },
    freeze() {
      mode = 'frozen'
      for (const socket of sockets) socket.pause()
    },
    slow(ms) {
      delayMs = ms
    },
    trickle(ms) {
      byteMs = ms
    },
    retarget(url) {
      goal = new URL(url)
    },
    restore() {
      mode = 'open'
      delayMs = 0
      byteMs = 0
      for (const socket of sockets) socket.resume()
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

/** A loopback TCP proxy that stands for the network between a server and a store. */
export interface StoreProxy {
  port: number
  /** The given connection string, through the proxy. */
  through(url: string): string
  /** Breaks every connection and refuses new ones. */
  cut(): void
  /** Takes connections and bytes, and passes nothing on: a server that is frozen, or a network that swallows. */
  freeze(): void
  /** Works again. Connections that were frozen go on. */
  restore(): void
  close(): Promise<void>
}

export async function startProxy(target: string): Promise<StoreProxy> {
  const { hostname, port: targetPort } = new URL(target)
  const sockets = new Set<Socket>()
  let mode: 'open' | 'cut' | 'frozen' = 'open'
  const keep = (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    socket.on('error', () => {})
    if (mode === 'frozen') socket.pause()
  }
  const server = createServer((client) => {
    if (mode === 'cut') return client.resetAndDestroy()
    const upstream = connect(Number(targetPort), hostname)
    keep(client)
    keep(upstream)
    client.on('data', (bytes) => upstream.write(bytes))
    upstream.on('data', (bytes) => client.write(bytes))
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
    restore() {
      mode = 'open'
      for (const socket of sockets) socket.resume()
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

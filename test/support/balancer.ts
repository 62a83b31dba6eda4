import { once } from 'node:events'
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'

/** What stands before two servers and leads clients to one of them, as a balancer does. */
export interface Balancer {
  url: string
  /** Leads new requests elsewhere; resolves when those under way were answered. Streams are ended: they reconnect. */
  switchTo(url: string): Promise<void>
  /** A shell command that does so. */
  switchCommand(url: string): string
  close(): Promise<void>
}

const SWITCH = '/balancer/switch?to='

/** Starts one on a free loopback port. */
export async function startBalancer(first: string): Promise<Balancer> {
  let target = first
  // A connection of its own for each request: none is closed at the moment it is used again.
  const agent = new Agent({ keepAlive: false })
  const underWay = new Map<ServerResponse, { stream: boolean }>()

  const pass = (from: IncomingMessage, to: ServerResponse) => {
    const kind = { stream: false }
    underWay.set(to, kind)
    to.once('close', () => underWay.delete(to))
    const { method, headers, url = '/' } = from
    const upstream = request(new URL(url, target), { agent, method, headers }, (answer) => {
      kind.stream = answer.headers['content-type']?.startsWith('text/event-stream') ?? false
      to.writeHead(answer.statusCode ?? 502, answer.headers)
      to.flushHeaders()
      answer.pipe(to)
      to.once('close', () => answer.destroy())
    })
    upstream.on('error', () => to.destroy())
    from.pipe(upstream)
  }
  const switchTo = async (url: string) => {
    target = url
    const answers = [...underWay].map(async ([answer, { stream }]) => {
      if (stream) answer.destroy()
      else if (!answer.closed) await once(answer, 'close')
    })
    await Promise.all(answers)
  }
  const server = createServer((from, to) => {
    if (!from.url?.startsWith(SWITCH)) return pass(from, to)
    void switchTo(decodeURIComponent(from.url.slice(SWITCH.length))).then(() => to.end())
  })
  server.keepAliveTimeout = 60_000
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as { port: number }).port}`
  return {
    url,
    switchTo,
    switchCommand: (to) =>
      `"${process.execPath}" -e "fetch('${url}${SWITCH}${encodeURIComponent(to)}').then((a) => process.exit(a.ok ? 0 : 1))"`,
    async close() {
      agent.destroy()
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

// Counterpart of streams: what one writes by hand with node:http. A document is inserted and then written to every
// response of this process. There is no log, no resume, no filter, no bound for slow clients, and no other instance.
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import pg from 'pg'
import { offer, processArgument } from '../channel.js'

const { databaseUrl } = processArgument<{ databaseUrl: string }>()
const pool = new pg.Pool({ connectionString: databaseUrl, max: 10 })
await pool.query('CREATE TABLE IF NOT EXISTS broadcast (id text PRIMARY KEY, item jsonb NOT NULL)')
const clients = new Set<ServerResponse>()
let written = 0

const server = createServer((request, response) => {
  if (request.method === 'GET') return follow(response)
  void create(request, response).catch((error: Error) => response.writeHead(500).end(error.message))
})
server.listen(0, '127.0.0.1')
await once(server, 'listening')
offer({
  url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
  close: async () => {
    server.closeAllConnections()
    server.close()
    await pool.end()
  },
})

function follow(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
  response.write('event: connection\ndata: {}\n\n')
  clients.add(response)
  response.once('close', () => clients.delete(response))
}

async function create(request: IncomingMessage, response: ServerResponse): Promise<void> {
  let body = ''
  for await (const part of request.setEncoding('utf8')) body += part
  const now = new Date()
  const id = `msg_${now.getTime()}_${written++}`
  const item = { ...JSON.parse(body), id, created_at: now.toISOString(), updated_at: now.toISOString() }
  await pool.query('INSERT INTO broadcast (id, item) VALUES ($1, $2)', [id, JSON.stringify(item)])
  response.writeHead(201, { 'content-type': 'application/json' })
  response.end(JSON.stringify({ success: true, data: item }))
  const event = JSON.stringify({ collection: 'session_messages', data: item, timestamp: now.toISOString() })
  const bytes = Buffer.from(`id: ${written}\nevent: insert\ndata: ${event}\n\n`)
  for (const client of clients) client.write(bytes)
}

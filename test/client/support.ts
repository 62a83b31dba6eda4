import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { PositionStore } from '../../src/client/index.js'
import { atEndOfFile } from '../support/leaks.js'

/** What each test needs beside the documents themselves. */
export const task = { session_id: 's', agent_id: 'a', task_type: 'build', status: 'pending' }

/** A position store that outlives streams, not the test. */
export function memoryStore(position?: string): PositionStore & { position: string | undefined } {
  return {
    position,
    async load() {
      return this.position
    },
    async save(taken) {
      this.position = taken
    },
  }
}

/** Lets the application listen on a free loopback port; resolves to its address. */
export function listening(app: FastifyInstance): Promise<string> {
  return app.listen({ port: 0, host: '127.0.0.1' })
}

/** A plain HTTP server that answers as the test says, and keeps what it was asked. */
export interface Stub {
  url: string
  /** In order; `body` is the text. */
  requests: { method: string; url: string; headers: IncomingMessage['headers']; body: string }[]
}

export type Answerer = (response: ServerResponse, attempt: number, request: IncomingMessage) => void

/** Stands for servers, proxies and balancers in moods that the real server has only for moments. */
export async function startStub(answer: Answerer): Promise<Stub> {
  const requests: Stub['requests'] = []
  const server: Server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request.setEncoding('utf8')) body += chunk
    const { method = '', url = '', headers } = request
    requests.push({ method, url, headers, body })
    answer(response, requests.length, request)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  atEndOfFile(async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests }
}

export function json(
  response: ServerResponse,
  status: number,
  body: object,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
}

/** An error as the server words it. */
export function refuse(response: ServerResponse, status: number, code: string, retryAfter?: string): void {
  const headers: Record<string, string> = retryAfter === undefined ? {} : { 'retry-after': retryAfter }
  json(response, status, { success: false, error: 'x', message: code, code, requestId: 'r' }, headers)
}

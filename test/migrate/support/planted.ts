import { once } from 'node:events'
import { createServer, type IncomingMessage, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text as readAll } from 'node:stream/consumers'
import { atEndOfFile } from '../../support/leaks.js'

/** A breakage of the legacy contract, planted into what a server answers. */
interface Plant {
  name: string
  /** Whether an answer to this request is changed. */
  on(method: string, url: URL): boolean
  /** Changes what is sent to the server. */
  asked?(url: URL): void
  /** Changes the head and the JSON that are answered. */
  // biome-ignore lint/suspicious/noExplicitAny: the body of any route
  answered?(answer: { status: number; headers: IncomingMessage['headers']; body: any }): void
  /** Changes a stream's text. */
  streamed?(text: string): string
  /** How a report tells of it: where, for which request. */
  seen: { where: string; name: RegExp }
}

const isList =
  (collection: string) =>
  (method: string, { pathname }: URL) =>
    method === 'GET' && pathname === `/api/v1/${collection}`
const isItem =
  (collection: string) =>
  (method: string, { pathname }: URL) =>
    method === 'GET' && pathname.startsWith(`/api/v1/${collection}/`)

/** Ten of them, each on requests of its own, so that each is seen for itself. */
export const plants: readonly Plant[] = [
  {
    name: 'the envelope has another name',
    on: isItem('session_messages'),
    answered: (answer) => {
      if (answer.status !== 200) return
      const { data, ...rest } = answer.body
      answer.body = { ...rest, item: data }
    },
    seen: { where: 'body.data', name: /^GET \/api\/v1\/session_messages\/\w/ },
  },
  {
    name: '200 instead of 201',
    on: (method, { pathname }) => method === 'POST' && pathname === '/api/v1/session_messages',
    answered: (answer) => {
      if (answer.status === 201) answer.status = 200
    },
    seen: { where: 'status', name: /^POST \/api\/v1\/session_messages: / },
  },
  {
    name: 'no pagination.has_more',
    on: isList('session_messages'),
    answered: ({ body }) => {
      if (body.pagination) delete body.pagination.has_more
    },
    seen: { where: 'body.pagination.has_more', name: /^GET \/api\/v1\/session_messages/ },
  },
  {
    name: 'another text of 404',
    on: isItem('agent_tasks'),
    answered: ({ status, body }) => {
      if (status === 404) body.error = 'Not found'
    },
    seen: { where: 'body.error', name: /^GET \/api\/v1\/agent_tasks\/compat/ },
  },
  {
    name: 'lists in another order',
    on: (method, url) => isList('agent_tasks')(method, url) && url.search === '',
    answered: ({ body }) => body.data?.reverse(),
    seen: { where: 'body.data[] order', name: /^GET \/api\/v1\/agent_tasks$/ },
  },
  {
    name: 'an inclusive bound is exclusive',
    on: (method, url) => isList('agent_tasks')(method, url) && url.searchParams.has('sort_order'),
    asked: ({ searchParams }) => {
      const after = Date.parse(searchParams.get('created_after') ?? '')
      if (!Number.isNaN(after)) searchParams.set('created_after', new Date(after + 1).toISOString())
    },
    seen: { where: 'body.data[0].created_at', name: /^GET \/api\/v1\/agent_tasks\?created_after=/ },
  },
  {
    name: 'items without id',
    on: (method, url) => isList('opencode_events')(method, url) && url.searchParams.has('offset'),
    answered: ({ body }) => {
      for (const item of body.data ?? []) delete item.id
    },
    seen: { where: 'body.data[].id', name: /^GET \/api\/v1\/opencode_events\?.*offset=/ },
  },
  {
    name: 'stream events under another name',
    on: (_method, { pathname }) => pathname === '/api/v1/stream/agent_tasks',
    streamed: (text) =>
      text.replace('event: connection', 'event: connected').replace('"connection"', '"connected"'),
    seen: { where: 'stream connection', name: /^GET \/api\/v1\/stream\/agent_tasks/ },
  },
  {
    name: 'another content type',
    on: (_method, { pathname }) => pathname === '/health',
    answered: ({ headers }) => {
      headers['content-type'] = 'text/plain'
    },
    seen: { where: 'header content-type', name: /^GET \/health/ },
  },
  {
    name: 'created_at as a number',
    on: isItem('opencode_events'),
    answered: ({ status, body }) => {
      if (status === 200) body.data.created_at = Date.parse(body.data.created_at)
    },
    seen: { where: 'body.data.created_at', name: /^GET \/api\/v1\/opencode_events\/\w/ },
  },
]

/** A proxy in front of a server that breaks what it answers in all ten ways; ended after the file's last test. */
export async function brokenServer(base: string): Promise<string> {
  const proxy = createServer((asked, answer) => {
    const url = new URL(asked.url ?? '/', base)
    const active = plants.filter((plant) => plant.on(asked.method ?? '', url))
    for (const plant of active) plant.asked?.(url)
    const upstream = request(url, { method: asked.method, headers: asked.headers, agent: false })
    upstream.on('response', async (response) => {
      const { 'content-length': _, 'transfer-encoding': _coding, ...headers } = response.headers
      const changed = { status: response.statusCode ?? 0, headers, body: undefined as unknown }
      if (headers['content-type'] === 'text/event-stream') {
        answer.writeHead(200, headers)
        response.setEncoding('utf8').on('data', (text: string) => {
          answer.write(active.reduce((before, plant) => plant.streamed?.(before) ?? before, text))
        })
        response.on('error', () => {})
        answer.once('close', () => response.destroy())
        return
      }
      const text = await readAll(response)
      if (text !== '' && headers['content-type']?.includes('json')) {
        changed.body = JSON.parse(text)
        for (const plant of active) plant.answered?.(changed)
      }
      answer.writeHead(changed.status, changed.headers)
      answer.end(changed.body === undefined ? text : JSON.stringify(changed.body))
    })
    asked.pipe(upstream)
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  atEndOfFile(async () => {
    proxy.closeAllConnections()
    proxy.close()
  })
  return `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`
}

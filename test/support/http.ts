import type { FastifyInstance, InjectOptions } from 'fastify'
import { expect } from 'vitest'
import type { Item } from '../../src/server/schemas/item.js'

/** An answer with what tests look at. */
export interface Answer {
  status: number
  headers: Record<string, string | undefined>
  text: string
  /** The body as JSON; undefined when it is none. Loosely typed on purpose: tests assert its shape. */
  // biome-ignore lint/suspicious/noExplicitAny: the body of any route
  json: any
}

export interface CallOptions {
  headers?: Record<string, string>
  /** Sent as JSON, unless it is a string or bytes, which are sent as they are. */
  body?: unknown
}

/** Sends one request through inject(). */
export async function call(
  app: FastifyInstance,
  method: string,
  url: string,
  { headers = {}, body }: CallOptions = {},
): Promise<Answer> {
  const raw = typeof body === 'string' || Buffer.isBuffer(body)
  const request: InjectOptions = {
    method: method as 'GET',
    url,
    headers: { ...(body !== undefined && { 'content-type': 'application/json' }), ...headers },
    ...(body !== undefined && { payload: raw ? body : JSON.stringify(body) }),
  }
  const { statusCode, headers: given, body: text } = await app.inject(request)
  return { status: statusCode, headers: given as Answer['headers'], text, json: parsed(text) }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** A query string. */
export function withQuery(url: string, query: Record<string, string | number>): string {
  const pairs = Object.entries(query).map(([key, value]): [string, string] => [key, String(value)])
  return `${url}?${new URLSearchParams(pairs)}`
}

/** Creates a document and answers its item; fails the test when that does not work. */
export async function create(app: FastifyInstance, collection: string, body: object): Promise<Item> {
  const answer = await call(app, 'POST', `/api/v1/${collection}`, { body })
  expect(answer.json, answer.text).toMatchObject({ success: true })
  return answer.json.data
}

/** Headers of a read from the mirror that waits until it holds everything written so far. */
export async function fromMirror(app: FastifyInstance, collection: string): Promise<Record<string, string>> {
  // The last write of all decides: deleting what was just made leaves nothing behind.
  const made = await call(app, 'POST', `/api/v1/${collection}`, { body: bodies[collection] ?? {} })
  const gone = await call(app, 'DELETE', `/api/v1/${collection}/${encodeURIComponent(made.json.data.id)}`)
  return {
    'x-dualstore-read-from': 'mirror',
    'x-dualstore-wait-for': gone.headers['x-dualstore-position'] ?? '',
  }
}

export const LEGACY = ['session_messages', 'agent_tasks', 'opencode_events'] as const

/** The least that each legacy collection takes. */
export const bodies: Record<string, Record<string, unknown>> = {
  session_messages: { session_id: 'ses_1', role: 'user', content: 'hello' },
  agent_tasks: { session_id: 'ses_1', agent_id: 'a1', task_type: 'build', status: 'pending' },
  opencode_events: { event_type: 'session.idle', event_data: { a: 1 }, source: 'opencode' },
}

/** What every error answer looks like. */
export function expectError(answer: Answer, status: number, code?: string): void {
  expect(answer.status, answer.text).toBe(status)
  expect(answer.json).toMatchObject({
    success: false,
    error: expect.any(String),
    message: expect.stringMatching(/\S/),
    requestId: expect.any(String),
    ...(code !== undefined && { code }),
  })
}

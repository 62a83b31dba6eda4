import type { Answer, Exchange, Frame } from './exchange.js'
import { routeOf } from './routes.js'

/** The two entry points of the legacy server: "a" documented, "b" simplified. */
export type Variant = 'a' | 'b'

const TIME = '2026-01-31T12:00:00.000Z'
const JSON_TYPE = 'application/json; charset=utf-8'
const CORS = { 'access-control-allow-origin': '*', 'access-control-allow-credentials': 'true' }
const STREAM = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-cache',
  connection: 'keep-alive',
  'access-control-allow-origin': '*',
}

/** What always stands in an item, by example, and the text for an id that is not there. */
const items: Readonly<Record<string, { item: object; notFound: string }>> = {
  session_messages: {
    item: { session_id: 'ses_1', role: 'user', content: 'text' },
    notFound: 'Session message not found',
  },
  agent_tasks: {
    item: { session_id: 'ses_1', agent_id: 'agent', task_type: 'build', status: 'pending' },
    notFound: 'Agent task not found',
  },
  opencode_events: {
    item: { event_type: 'session.idle', event_data: {}, source: 'opencode' },
    notFound: 'Opencode event not found',
  },
}

const itemOf = (collection: string) => ({
  id: 'id',
  ...items[collection]?.item,
  created_at: TIME,
  updated_at: TIME,
})

const answer = (status: number, body: unknown): Answer => ({
  status,
  headers: { 'content-type': JSON_TYPE, ...CORS },
  body,
})

const failure = (status: number, error: string) => answer(status, { success: false, error })

/** Every error, a bad request included (defect 5). */
const INTERNAL = failure(500, 'Internal server error')
const NO_ROUTE = failure(404, 'Not found')

const rawDocument = { id: 'id', text: '', metadata: { updated_at: TIME }, timestamp: TIME }

export interface Expected {
  variant: Variant
  /** Refused for want of a valid token, with this text; undefined when it has one or none is asked for. */
  unauthorized?: string | undefined
}

/**
 * What the legacy server answers, by example, as the legacy contract tells it: the reference when none is running.
 * Bodies are to be compared by shape.
 */
export function recordedAnswer(exchange: Exchange, expected: Expected): Answer {
  const recorded = answerTo(exchange, expected)
  return exchange.method === 'HEAD' ? { ...recorded, body: undefined } : recorded
}

function answerTo(exchange: Exchange, expected: Expected): Answer {
  const { variant, unauthorized } = expected
  const { bad = false, unknownId = false } = exchange.hints ?? {}
  if (unauthorized !== undefined) return answer(401, { error: unauthorized })
  const route = routeOf(exchange.method, exchange.path)
  switch (route.kind) {
    case 'unknown':
    case 'method':
      return NO_ROUTE
    case 'preflight':
      return {
        status: 204,
        headers: { ...CORS, 'access-control-allow-methods': 'GET, HEAD, POST' },
        body: undefined,
      }
    case 'index':
      return answer(200, {
        name: 'name',
        description: 'text',
        version: '1.0.0',
        endpoints: { collections: '/api/v1', streaming: '/api/v1/stream', health: '/health' },
      })
    case 'health': {
      const stores = { sessionMessages: true, agentTasks: true, opencodeEvents: true }
      const body = { status: 'ok', timestamp: TIME, uptime: 1, version: '1.0.0' }
      return answer(200, variant === 'b' ? { ...body, stores } : body)
    }
    case 'debug':
      return answer(200, Object.fromEntries(Object.keys(items).map((name) => [name, [rawDocument]])))
    case 'stream':
      return {
        status: 200,
        headers: STREAM,
        body: undefined,
        frames: recordedFrames(route.collection, variant),
      }
    case 'item':
      if (unknownId) return failure(404, items[route.collection]?.notFound ?? '')
      return answer(200, { success: true, data: itemOf(route.collection) })
    case 'create':
      if (bad) return INTERNAL
      return answer(201, { success: true, data: itemOf(route.collection) })
    case 'list': {
      if (bad) return INTERNAL
      const limit = Number(route.query.get('limit') ?? 50)
      const offset = Number(route.query.get('offset') ?? 0)
      return answer(200, {
        success: true,
        data: [itemOf(route.collection)],
        pagination: { total: 1, limit, offset, has_more: false },
      })
    }
  }
}

function recordedFrames(collection: string, variant: Variant): Frame[] {
  if (variant === 'a') {
    const event = (name: string, data: object) => ({
      event: name,
      data: { collection, data, timestamp: TIME },
    })
    return [
      event('connection', { client_id: 'id', timestamp: TIME }),
      event('connection', { clientId: 'id', connected: true }),
    ]
  }
  const data = { message: `Connected to ${collection} stream` }
  return [{ event: undefined, data: { type: 'connection', collection, data, timestamp: TIME } }]
}

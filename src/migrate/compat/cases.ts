import type { Variant } from './contract.js'
import type { Exchange, Hints } from './exchange.js'
import type { Known } from './survey.js'

/** A request of the walk. */
export interface Case extends Exchange {
  name: string
  /** Where the target is asked for the same under another id. */
  targetPath?: string
  /** false: sent without the sides' own tokens. */
  authorized?: boolean
  /** The text of 401 that belongs to it, where tokens are asked for. */
  refusal?: string
  hints: Hints
}

const UNKNOWN = 'compat-check-unknown-id'

interface More extends Omit<Partial<Case>, 'hints'>, Hints {}

function request(method: string, path: string, more: More = {}): Case {
  const { name, bad = false, unknownId = false, ownId = false, firstCreatedAt, ...rest } = more
  const hints = { bad, unknownId, ownId, ...(firstCreatedAt !== undefined && { firstCreatedAt }) }
  return { name: name ?? `${method} ${path}`, method, path, hints, ...rest }
}

/** Everything that can be asked without changing anything, of both servers. */
export function readCases(known: readonly Known[], variant: Variant): Case[] {
  return [...serverCases(), ...known.flatMap((one) => collectionCases(one, variant))]
}

function serverCases(): Case[] {
  const list = '/api/v1/agent_tasks?limit=1'
  const wrong = { authorization: 'Bearer compat-check-wrong-token' }
  return [
    request('GET', '/'),
    request('GET', '/health'),
    request('GET', '/debug/dualstore-data'),
    ...['/nothing', '/api/v1', '/api/v1/nothing', '/api/v1/stream/nothing', '/api/v1/agent_tasks/a/b'].map(
      (path) => request('GET', path, { bad: true }),
    ),
    request('POST', '/health', { bad: true }),
    request('OPTIONS', '/api/v1/agent_tasks', {
      headers: { origin: 'https://app.example', 'access-control-request-method': 'POST' },
    }),
    ...['/health', list].flatMap((path) => [
      request('GET', path, {
        name: `GET ${path} without authorization`,
        authorized: false,
        refusal: 'missing authorization header',
      }),
      request('GET', path, {
        name: `GET ${path} with a wrong token`,
        headers: wrong,
        refusal: 'invalid authorization header',
      }),
    ]),
  ]
}

function collectionCases(known: Known, variant: Variant): Case[] {
  return [...listCases(known), ...itemCases(known), ...refusedCases(known), ...streamCases(known, variant)]
}

function listCases({ collection, sessionId, createdAt }: Known): Case[] {
  const path = `/api/v1/${collection}`
  const list = (query: Record<string, string>, more: More = {}) =>
    request('GET', `${path}?${new URLSearchParams(query)}`, more)
  const bad = { bad: true }
  return [
    request('GET', path),
    request('HEAD', path),
    ...['1', '7', '1000'].map((limit) => list({ limit })),
    ...['0', '1001', '-1', 'ten'].map((limit) => list({ limit }, bad)),
    ...['0', '1', '1000000'].map((offset) => list({ offset })),
    ...['-1', 'first'].map((offset) => list({ offset }, bad)),
    list({ limit: '2', offset: '1', sort_order: 'asc' }),
    ...['created_at', 'updated_at', 'session_id', 'no_such_field'].map((sort_by) =>
      list({ sort_by, limit: '1000' }),
    ),
    ...['asc', 'desc'].map((sort_order) => list({ sort_order, limit: '1000' })),
    list({ sort_order: 'up' }, bad),
    list({ session_id: 'compat-check-no-session' }),
    ...(sessionId === undefined ? [] : [list({ session_id: sessionId })]),
    list({ created_after: '2999-01-01T00:00:00.000Z' }),
    list({ created_before: '1970-01-01T00:00:00.000Z' }),
    list({ created_after: 'yesterday' }, bad),
    list({ created_before: 'tomorrow' }, bad),
    ...(createdAt === undefined
      ? []
      : [
          list({ created_after: createdAt, sort_order: 'asc' }, { firstCreatedAt: createdAt }),
          list({ created_before: createdAt }, { firstCreatedAt: createdAt }),
          list({ created_after: createdAt, created_before: createdAt }, { firstCreatedAt: createdAt }),
        ]),
    list({ filter: '{}' }),
    list({ filter: '{"session_id":"compat-check-no-session"}' }),
    list({ filter: 'no filter' }),
    list({ no_such_parameter: '1' }),
  ]
}

function itemCases({ collection, ids, listedId }: Known): Case[] {
  const path = (id: string) => `/api/v1/${collection}/${encodeURIComponent(id)}`
  return [
    ...ids.map((id) => request('GET', path(id))),
    ...ids.slice(0, 1).map((id) => request('HEAD', path(id))),
    ...[UNKNOWN, 'compat check/%é'].map((id) => request('GET', path(id), { unknownId: true })),
    ...(listedId === undefined
      ? []
      : [
          request('GET', path(listedId.legacy), {
            name: `GET /api/v1/${collection}/<id from a list>`,
            targetPath: path(listedId.target),
            unknownId: true,
          }),
        ]),
  ]
}

/** Requests that could change something and cannot: what they send is no document, or nothing is there. */
function refusedCases({ collection }: Known): Case[] {
  const path = `/api/v1/${collection}`
  const json = { 'content-type': 'application/json' }
  const post = (name: string, headers: Record<string, string>, body: string) =>
    request('POST', path, { name: `POST ${path}: ${name}`, headers, body, bad: true })
  return [
    post('malformed JSON', json, '{"session_id":'),
    post('no body', json, ''),
    post('another content type', { 'content-type': 'text/xml' }, '<a/>'),
    request('PUT', path, { headers: json, body: '{}', bad: true }),
    request('PATCH', `${path}/${UNKNOWN}`, { headers: json, body: '{}', bad: true }),
    request('DELETE', `${path}/${UNKNOWN}`, { bad: true }),
  ]
}

function streamCases({ collection }: Known, variant: Variant): Case[] {
  const path = `/api/v1/stream/${collection}`
  return [
    request('GET', path),
    request('GET', `${path}?session_id=compat-check-no-session`),
    // What clients of the simplified variant have to ask for; the legacy server ignores it.
    ...(variant === 'b' ? [request('GET', `${path}?format=message`)] : []),
  ]
}

const bodies: Readonly<
  Record<string, { least: object; whole: object; wrong: Readonly<Record<string, object>> }>
> = {
  session_messages: {
    least: { session_id: 'compat-check', role: 'user', content: 'compat-check' },
    whole: { metadata: { model: 'compat-check', nested: { deep: [1, null] } } },
    wrong: { 'role is none of its values': { role: 'robot' } },
  },
  agent_tasks: {
    least: { session_id: 'compat-check', agent_id: 'a', task_type: 'compat-check', status: 'pending' },
    whole: { input_data: { a: [1] }, output_data: { ok: true }, error_message: 'no', progress: 99.5 },
    wrong: { 'status is none of its values': { status: 'done' }, 'progress is above 100': { progress: 101 } },
  },
  opencode_events: {
    least: { event_type: 'compat-check', event_data: { a: 1 }, source: 'compat-check' },
    whole: { session_id: 'compat-check', severity: 'warning' },
    wrong: { 'severity is none of its values': { severity: 'fatal' } },
  },
}

/** Documents that are created, and what is refused. @param tag makes ids that nobody else has */
export function writeCases(collection: string, tag: string): Case[] {
  const { least, whole, wrong } = bodies[collection] ?? { least: {}, whole: {}, wrong: {} }
  const post = (name: string, body: object, more: More = {}) =>
    request('POST', `/api/v1/${collection}`, {
      name: `POST /api/v1/${collection}: ${name}`,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      ...more,
    })
  const id = `compat-check-${tag}-${collection}`
  const times = { created_at: '2001-01-01T00:00:00.000Z', updated_at: '2001-01-01T00:00:00.000Z' }
  return [
    post('the required fields', least),
    post('every field', { ...least, ...whole }),
    post("a client's own times", { ...least, ...times }),
    post("a client's own id", { ...least, id }),
    request('GET', `/api/v1/${collection}/${id}`, { ownId: true, unknownId: true }),
    ...Object.keys(least).map((field) =>
      post(`${field} is missing`, { ...least, [field]: undefined }, { bad: true }),
    ),
    ...Object.entries(wrong).map(([name, change]) => post(name, { ...least, ...change }, { bad: true })),
  ]
}

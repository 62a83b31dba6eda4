import { expect, test, vi } from 'vitest'
import { type SentSpan, spansIn, startCollector } from '../../support/collector.js'
import { testDatabase } from '../../support/database.js'
import { until } from '../../support/follower.js'
import { bodies, call } from '../../support/http.js'
import { mongoIsAvailable } from '../../support/mongo.js'
import { testServer } from '../../support/server.js'

// Milliseconds until spans are sent; 5,000 unless told.
vi.stubEnv('OTEL_BSP_SCHEDULE_DELAY', '100')
const collector = await startCollector()
const kind = (await mongoIsAvailable()) ? 'mongodb' : 'embedded'
const { pool, url: databaseUrl } = await testDatabase()
const app = await testServer(kind, {
  databaseUrl,
  otelExporterOtlpEndpoint: collector.url,
  otelServiceName: 'traced',
  serverTiming: true,
  // Only the write itself wakes the follower.
  followPollMs: 60_000,
})
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const CALLER = '00f067aa0ba902b7'
const body = bodies.session_messages as object
const SERVER = 2
const CLIENT = 3
const ERROR = 2

/** The spans that match, as soon as there are so many: spans are sent in batches. */
async function spans(matches: (span: SentSpan) => boolean, count: number): Promise<SentSpan[]> {
  await until(() => spansIn(collector.received).filter(matches).length >= count)
  return spansIn(collector.received).filter(matches)
}

test('one trace follows a write from the caller to the statement and the mirror', async () => {
  const secret = 'what the document says'
  const answer = await call(app, 'POST', '/api/v1/session_messages', {
    headers: {
      traceparent: `00-${TRACE}-${CALLER}-01`,
      'x-request-id': 'req-1',
      'x-dualstore-consistency': 'strict',
    },
    body: { ...body, content: secret },
  })
  expect(answer.status).toBe(201)
  const traced = await spans(({ traceId, name }) => traceId === TRACE && name === 'mirror apply', 1)
  // The request outlives it, and may be sent with the spans after these.
  await spans(({ traceId, kind }) => traceId === TRACE && kind === SERVER, 1)
  const all = spansIn(collector.received).filter(({ traceId }) => traceId === TRACE)
  const one = (name: string) => {
    const found = all.filter((span) => span.name === name)
    expect(found, name).toHaveLength(1)
    return found[0]!
  }
  const request = one('POST /api/v1/:collection')
  const write = one('write')
  const gathered = one('gathered statement')
  const statement = one('create_documents')
  const [applied] = traced
  expect(request).toMatchObject({
    parentSpanId: CALLER,
    kind: SERVER,
    service: 'traced',
    attributes: {
      'http.request.method': 'POST',
      'http.route': '/api/v1/:collection',
      'http.response.status_code': 201,
      'url.path': '/api/v1/session_messages',
      'dualstore.request_id': 'req-1',
    },
  })
  expect(write.parentSpanId).toBe(request.spanId)
  expect(gathered.parentSpanId).toBe(write.spanId)
  expect(statement).toMatchObject({
    parentSpanId: gathered.spanId,
    kind: CLIENT,
    attributes: { 'db.system.name': 'postgresql' },
  })
  expect(applied?.parentSpanId).toBe(write.spanId)
  // By its position the write is found in the traces of other instances.
  const position = Number(answer.headers['x-dualstore-position']?.split('-').at(-1))
  expect(write.attributes['dualstore.position']).toBe(position)
  expect(applied?.attributes['dualstore.position']).toBe(position)
  for (const inner of [write, gathered, statement]) {
    expect(inner.start).toBeGreaterThanOrEqual(request.start)
    expect(inner.end).toBeLessThanOrEqual(request.end)
  }

  // The batch, which may hold many writes, has a trace of its own.
  const [batch] = await spans(({ spanId }) => spanId === applied?.links[0]?.spanId, 1)
  const inBatch = spansIn(collector.received).filter(({ traceId }) => traceId === batch?.traceId)
  expect(batch?.traceId).not.toBe(TRACE)
  if (kind === 'mongodb') {
    const bulk = inBatch.find(({ name }) => name === 'bulkWrite')
    expect(bulk).toMatchObject({
      kind: CLIENT,
      attributes: { 'db.system.name': 'mongodb', 'db.operation.batch.size': 1 },
    })
  }
  expect(JSON.stringify(collector.received)).not.toContain(secret)
})

test('writes that share a statement keep their own traces, and the statement links to all of them', async () => {
  // The first holds both lanes of writing up, so that the others wait together.
  const lock = await pool.connect()
  await lock.query('BEGIN')
  await lock.query('SELECT dualstore.lock_log()')
  const post = (number: number) =>
    call(app, 'POST', '/api/v1/session_messages', { headers: { 'x-request-id': `shared-${number}` }, body })
  const first = [post(0), post(1)]
  await until(async () => {
    const { rows } = await pool.query('SELECT FROM pg_locks WHERE NOT granted')
    return rows.length > 0
  })
  const others = [2, 3, 4, 5].map(post)
  await lock.query('COMMIT')
  lock.release()
  for (const { status } of await Promise.all([...first, ...others])) expect(status).toBe(201)

  const requests = await spans(
    ({ attributes }) => String(attributes['dualstore.request_id']).startsWith('shared-'),
    6,
  )
  const traces = new Set(requests.map(({ traceId }) => traceId))
  expect(traces.size).toBe(6)
  const ids = new Set(requests.map(({ spanId }) => spanId))
  const writes = await spans(({ name, parentSpanId }) => name === 'write' && ids.has(parentSpanId ?? ''), 6)
  const waiting = writes.map(({ spanId }) => spanId)
  const served = () =>
    spansIn(collector.received)
      .filter(({ name, traceId }) => name === 'gathered statement' && traces.has(traceId))
      .map(({ parentSpanId, links }) => [parentSpanId ?? '', ...links.map(({ spanId }) => spanId)])
  await expect.poll(() => served().flat().toSorted()).toEqual(waiting.toSorted())
  expect(Math.max(...served().map(({ length }) => length))).toBeGreaterThan(1)
  await spans(({ name, traceId }) => name === 'mirror apply' && traces.has(traceId), 6)
})

test('failures are marked, and tokens, queries and health checks are nowhere', async () => {
  await call(app, 'GET', '/health/live')
  const missing = await call(app, 'GET', '/api/v1/session_messages/none?fields=private', {
    headers: { 'x-request-id': 'missing', authorization: 'Bearer private' },
  })
  expect(missing.status).toBe(404)
  await call(app, 'GET', '/api/v1/session_messages', {
    headers: { 'x-request-id': 'late', 'x-dualstore-read-from': 'mirror', 'x-dualstore-wait-for': 'x-1' },
  })
  const [span] = await spans(({ attributes }) => attributes['dualstore.request_id'] === 'missing', 1)
  expect(span).toMatchObject({ status: 0, attributes: { 'http.response.status_code': 404 } })
  const text = JSON.stringify(collector.received)
  expect(text).not.toContain('private')
  expect(text).not.toContain('/health')
  expect(spansIn(collector.received).filter(({ status }) => status === ERROR)).toEqual([])
})

test('Server-Timing tells what an answer waited for', async () => {
  const made = await call(app, 'POST', '/api/v1/session_messages', { body })
  expect(made.headers['server-timing']).toMatch(/^db;dur=[\d.]+, total;dur=[\d.]+$/)
  const [, db, total] = /db;dur=([\d.]+), total;dur=([\d.]+)/.exec(made.headers['server-timing'] ?? '') ?? []
  expect(Number(db)).toBeGreaterThan(0)
  expect(Number(db)).toBeLessThanOrEqual(Number(total))
  const live = await call(app, 'GET', '/health/live')
  expect(live.headers['server-timing']).toBeUndefined()
})

// A stand-in for the legacy server, written from the legacy contract alone, defects included. Run by start.ts.
//
// Settings: VARIANT (a or b), PORT, HOST, MONGODB_URI, MONGODB_DATABASE, AGENT_NAME, AUTH_ENABLED with
// AUTH_BEARER_TOKEN or BEARER_AUTH_KEY (a only), SSE_HEARTBEAT_INTERVAL, PING_INTERVAL, VECTOR_BATCH_MS, NODE_ENV, and
// STREAM_HEAD_TWICE for what broke streams of variant a.
//
// A line of JSON on stdin does what no route did, and is answered by one on stdout:
// {"update": {"collection", "id", "changes"}} and {"delete": {"collection", "id"}}.
import { createInterface } from 'node:readline'
import cors from '@fastify/cors'
import Fastify from 'fastify'
import { collections } from './documents.mjs'
import { openStore } from './store.mjs'
import { openStream } from './streams.mjs'

const { env } = process
const variant = env.VARIANT === 'b' ? 'b' : 'a'
const VERSION = '1.0.0'
const names = Object.keys(collections)

const store = await openStore({
  uri: env.MONGODB_URI ?? 'mongodb://localhost:27017',
  database: env.MONGODB_DATABASE ?? 'database',
  agentName: env.AGENT_NAME ?? 'duck',
  variant,
  vectorBatchMs: Number(env.VECTOR_BATCH_MS ?? 0),
})

const app = Fastify({ forceCloseConnections: true })
// Browsers refuse * together with credentials (defect 8).
await app.register(cors, { origin: '*', credentials: true })

// Every failure is 500, a bad request too (defect 5).
app.setErrorHandler((error, _request, reply) =>
  reply.code(500).send({
    success: false,
    error: 'Internal server error',
    ...(env.NODE_ENV === 'development' && { message: /** @type {Error} */ (error).message }),
  }),
)

// Any text turns it on, "false" too (defect 8); variant b ignores it.
const token = env.BEARER_AUTH_KEY || (env.AUTH_ENABLED ? env.AUTH_BEARER_TOKEN : undefined)
if (variant === 'a' && token) {
  app.addHook('onRequest', async (request, reply) => {
    const { authorization } = request.headers
    if (authorization === undefined) return reply.code(401).send({ error: 'missing authorization header' })
    if (authorization !== `Bearer ${token}`)
      return reply.code(401).send({ error: 'invalid authorization header' })
  })
}

app.get('/', async () => ({
  name: 'dualstore-http',
  description: 'HTTP access to the dual store',
  version: VERSION,
  endpoints: { collections: '/api/v1', streaming: '/api/v1/stream', health: '/health' },
}))

app.get('/health', async () => ({
  status: 'ok',
  timestamp: new Date().toISOString(),
  uptime: process.uptime(),
  version: VERSION,
  ...(variant === 'b' && {
    stores: Object.fromEntries(Object.values(collections).map((definition) => [definition.store, true])),
  }),
}))

// Open to anyone (defect 10).
app.get('/debug/dualstore-data', async () =>
  Object.fromEntries(
    await Promise.all(names.map(async (name) => /** @type {const} */ ([name, await store.raw(name)]))),
  ),
)

const listQuery = {
  type: 'object',
  properties: {
    limit: { type: 'number', minimum: 1, maximum: 1000, default: 50 },
    offset: { type: 'number', minimum: 0, default: 0 },
    sort_by: { type: 'string', default: 'created_at' },
    sort_order: { type: 'string', enum: ['asc', 'desc'], default: 'desc' },
    session_id: { type: 'string' },
    created_after: { type: 'string', format: 'date-time' },
    created_before: { type: 'string', format: 'date-time' },
    // filter: accepted, never applied.
  },
}

for (const [name, definition] of Object.entries(collections)) {
  app.get(`/api/v1/${name}`, { schema: { querystring: listQuery } }, async (request) => {
    const query = /** @type {any} */ (request.query)
    const { items, total } = await store.list(name, query)
    const { limit, offset } = query
    return {
      success: true,
      data: items,
      pagination: { total, limit, offset, has_more: offset + limit < total },
    }
  })
  app.get(`/api/v1/${name}/:id`, async (request, reply) => {
    const item = await store.read(name, /** @type {any} */ (request.params).id)
    if (item === undefined) return reply.code(404).send({ success: false, error: definition.notFound })
    return { success: true, data: item }
  })
  app.post(`/api/v1/${name}`, async (request, reply) => {
    const item = await store.create(name, request.body)
    return reply.code(201).send({ success: true, data: item })
  })
  app.get(`/api/v1/stream/${name}`, { exposeHeadRoute: false }, async (_request, reply) => {
    reply.hijack()
    openStream(reply.raw, {
      variant,
      collection: name,
      heartbeatMs: Number(env.SSE_HEARTBEAT_INTERVAL ?? 30_000),
      pingMs: Number(env.PING_INTERVAL ?? 15_000),
      headTwice: Boolean(env.STREAM_HEAD_TWICE),
    })
  })
}

const url = await app.listen({ host: env.HOST ?? '127.0.0.1', port: Number(env.PORT ?? 3000) })
console.log(`the legacy server listens on ${url}`)

createInterface({ input: process.stdin }).on('line', async (line) => {
  const { update, delete: remove } = JSON.parse(line)
  const done =
    update === undefined
      ? // Deleting answered true and deleted nothing (defect 5).
        { deleted: remove.id, ok: true }
      : { updated: update.id, ok: await store.update(update.collection, update.id, update.changes) }
  console.log(JSON.stringify(done))
})

// It waited for nobody (defect 10).
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0))

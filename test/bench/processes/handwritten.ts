// Counterpart (b): the CRUD one writes by hand with Fastify and pg, on one jsonb table with the same indexes. It
// keeps no log, has no mirror, checks no ETag and validates the required fields only.
import Fastify from 'fastify'
import pg from 'pg'
import { offer, processArgument } from '../channel.js'

interface Message {
  id: string
  session_id: string
  role: string
  content: string
  created_at: string
}

const { databaseUrl } = processArgument<{ databaseUrl: string }>()
const pool = new pg.Pool({ connectionString: databaseUrl, max: 10 })
await pool.query(`
  CREATE TABLE messages (id text PRIMARY KEY, item jsonb NOT NULL, created_at timestamptz NOT NULL);
  CREATE INDEX messages_by_creation ON messages (created_at, id);
  CREATE INDEX messages_by_session ON messages ((item ->> 'session_id'), created_at, id);
`)

const body = {
  type: 'object',
  required: ['session_id', 'role', 'content'],
  properties: { session_id: { type: 'string' }, role: { type: 'string' }, content: { type: 'string' } },
} as const

/** What the server adds to what was sent. */
function complete(sent: Partial<Message>): Message {
  const now = new Date()
  const id = sent.id ?? `msg_${now.getTime()}_${Math.random().toString(36).slice(2, 11)}`
  return { ...sent, id, created_at: sent.created_at ?? now.toISOString() } as Message
}

const app = Fastify({ bodyLimit: 64 * 1024 * 1024 })

app.get<{ Params: { id: string } }>('/api/v1/session_messages/:id', async (request, reply) => {
  const { rows } = await pool.query('SELECT item FROM messages WHERE id = $1', [request.params.id])
  if (rows.length === 0) return reply.code(404).send({ success: false, error: 'Session message not found' })
  return { success: true, data: rows[0].item }
})

app.get<{ Querystring: { session_id: string; limit: number; offset: number } }>(
  '/api/v1/session_messages',
  {
    schema: {
      querystring: {
        type: 'object',
        required: ['session_id'],
        properties: {
          session_id: { type: 'string' },
          limit: { type: 'integer', default: 50 },
          offset: { type: 'integer', default: 0 },
        },
      },
    },
  },
  async (request) => {
    const { session_id, limit, offset } = request.query
    const [page, count] = await Promise.all([
      pool.query(
        `SELECT item FROM messages WHERE item ->> 'session_id' = $1
         ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3`,
        [session_id, limit, offset],
      ),
      pool.query(`SELECT count(*)::int AS total FROM messages WHERE item ->> 'session_id' = $1`, [
        session_id,
      ]),
    ])
    const { total } = count.rows[0]
    return {
      success: true,
      data: page.rows.map((row) => row.item),
      pagination: { total, limit, offset, has_more: offset + limit < total },
    }
  },
)

app.post<{ Body: Partial<Message> }>(
  '/api/v1/session_messages',
  { schema: { body } },
  async (request, reply) => {
    const item = complete(request.body)
    await pool.query('INSERT INTO messages (id, item, created_at) VALUES ($1, $2, $3)', [
      item.id,
      JSON.stringify(item),
      item.created_at,
    ])
    return reply.code(201).send({ success: true, data: item })
  },
)

app.post<{ Body: Partial<Message>[] }>(
  '/bulk',
  { schema: { body: { type: 'array', items: body } } },
  async (request, reply) => {
    const items = request.body.map(complete)
    await pool.query(
      `INSERT INTO messages (id, item, created_at)
       SELECT * FROM unnest($1::text[], $2::jsonb[], $3::timestamptz[])`,
      [
        items.map((item) => item.id),
        items.map((item) => JSON.stringify(item)),
        items.map((item) => item.created_at),
      ],
    )
    return reply.code(201).send({ success: true, data: items })
  },
)

const url = await app.listen({ host: '127.0.0.1', port: 0 })
offer({
  url,
  close: async () => {
    await app.close()
    await pool.end()
  },
})

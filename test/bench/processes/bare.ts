// Counterpart (a): Fastify alone, which answers with text it has in memory. The ceiling for any route.
import Fastify from 'fastify'
import { offer, processArgument } from '../channel.js'
import { seededId, seededItem } from '../documents.js'

const { documents } = processArgument<{ documents: number }>()
const texts = new Map<string, string>()
for (let index = 0; index < documents; index++) {
  texts.set(seededId(index), JSON.stringify({ success: true, data: seededItem(index) }))
}

const app = Fastify()
app.get<{ Params: { id: string } }>('/api/v1/session_messages/:id', async (request, reply) =>
  reply.type('application/json; charset=utf-8').send(texts.get(request.params.id)),
)
const url = await app.listen({ host: '127.0.0.1', port: 0 })
offer({ url, close: () => app.close() })

// Two ways to write the same events to many clients: @fastify/sse, and a hijacked reply that is written to as it is.
import { fastifySSE } from '@fastify/sse'
import Fastify, { type FastifyReply } from 'fastify'
import { offer, processArgument } from '../channel.js'
import { message } from '../documents.js'
import { mark } from '../marks.js'

const { writer } = processArgument<{ writer: 'plugin' | 'raw' }>()
const replies = new Set<FastifyReply>()
const app = Fastify()
await app.register(fastifySSE)

if (writer === 'plugin') {
  app.get('/events', { sse: 'only' }, async (_request, reply) => {
    reply.sse.keepAlive()
    reply.sse.sendHeaders()
    reply.raw.flushHeaders()
    replies.add(reply)
    reply.sse.onClose(() => replies.delete(reply))
  })
} else {
  app.get('/events', (_request, reply) => {
    reply.hijack()
    reply.raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
    reply.raw.flushHeaders()
    replies.add(reply)
    reply.raw.once('close', () => replies.delete(reply))
  })
}

/** Each event to every client, and the next when every socket takes more. */
async function broadcast(events: number): Promise<void> {
  for (let number = 0; number < events; number++) {
    const { content, ...item } = message(number)
    const data = {
      type: 'insert',
      collection: 'session_messages',
      data: { ...item, content: mark(number) + content },
    }
    if (writer === 'plugin') {
      const event = { id: String(number), event: 'insert', data }
      await Promise.all([...replies].map((reply) => reply.sse.send(event)))
      continue
    }
    const bytes = Buffer.from(`id: ${number}\nevent: insert\ndata: ${JSON.stringify(data)}\n\n`)
    const full = [...replies].filter(({ raw }) => !raw.write(bytes))
    await Promise.all(full.map(({ raw }) => new Promise((resolve) => raw.once('drain', resolve))))
  }
}

const url = await app.listen({ host: '127.0.0.1', port: 0 })
offer({ url, calls: { broadcast }, close: () => app.close() })

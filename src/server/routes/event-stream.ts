import type { OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import { EVENT_STREAM } from '../schemas/media-types.js'
import type { Sink, StreamClient } from '../services/streams/client.js'

/** How long a client may take to read what is queued when its stream has been ended. */
const END_MS = 2000

/**
 * Answers a request with an event stream that `connect` feeds. The reply is Fastify's up to its head; from there on
 * bytes go to the socket, framed once for all clients that are sent the same (docs/benchmarks.md compares).
 */
export function sendEventStream(reply: FastifyReply, connect: (sink: Sink) => StreamClient): void {
  const { raw } = reply
  const { socket } = raw.req
  let client: StreamClient | undefined
  const sink = sinkOf(raw, () => client?.drained())
  // Before the head is sent: a refusal must still be answered as one.
  client = connect(sink)
  reply.hijack()
  socket.setTimeout(0)
  raw.writeHead(200, {
    ...(reply.getHeaders() as OutgoingHttpHeaders),
    'content-type': EVENT_STREAM,
    'cache-control': 'no-cache',
    connection: 'keep-alive',
    // nginx would collect events into pages.
    'x-accel-buffering': 'no',
  })
  raw.flushHeaders()
  raw.once('close', () => client?.gone())
}

function sinkOf(raw: ServerResponse, drained: () => void): Sink {
  let waits = false
  const onDrain = () => {
    waits = false
    drained()
  }
  const destroy = () => raw.destroy()
  return {
    write(bytes) {
      if (raw.destroyed || raw.writableEnded) return true
      const { socket } = raw
      // A response that waits behind another one on its connection has no socket yet and keeps what it is given.
      const direct = socket !== null && raw.headersSent
      const taken = direct ? socket.write(raw.chunkedEncoding ? chunked(bytes) : bytes) : raw.write(bytes)
      if (!taken && !waits) {
        waits = true
        ;(direct ? socket : raw).once('drain', onDrain)
      }
      return taken
    },
    end(bytes) {
      if (raw.destroyed || raw.writableEnded) return
      const { socket } = raw
      // Its head says keep-alive, as legacy clients know it; a server that closes must not wait for that.
      raw.end(bytes, () => socket?.end())
      setTimeout(destroy, END_MS).unref()
    },
    destroy,
  }
}

const framed = new WeakMap<Buffer, Buffer>()

/** Bytes as a chunk of HTTP/1.1 (RFC 9112, section 7.1), made once however many clients are sent them. */
function chunked(bytes: Buffer): Buffer {
  let chunk = framed.get(bytes)
  if (chunk === undefined) {
    chunk = Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')])
    framed.set(bytes, chunk)
  }
  return chunk
}

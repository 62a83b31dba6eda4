// Server-sent events of the legacy server (legacy contract, section 5): never a change, in both variants.
import { randomUUID } from 'node:crypto'

const HEAD = {
  'Content-Type': 'text/event-stream',
  'Cache-Control': 'no-cache',
  Connection: 'keep-alive',
  'Access-Control-Allow-Origin': '*',
}

/**
 * @param {import('node:http').ServerResponse} response
 * @param {{ variant: 'a' | 'b', collection: string, heartbeatMs: number, pingMs: number, headTwice: boolean }} options
 */
export function openStream(response, { variant, collection, heartbeatMs, pingMs, headTwice }) {
  response.writeHead(200, HEAD)
  // Node refuses the second head, and so nothing but the first one is ever sent (defect 7).
  if (headTwice) {
    try {
      response.writeHead(200, HEAD)
    } catch {
      response.destroy()
      return
    }
  }
  const now = () => new Date().toISOString()
  const timers =
    variant === 'a'
      ? [
          setInterval(
            () => response.write(named('heartbeat', { collection, data: {}, timestamp: now() })),
            heartbeatMs,
          ),
          setInterval(() => response.write(': ping\n\n'), pingMs),
        ]
      : [setInterval(() => response.write(unnamed({ type: 'heartbeat', timestamp: now() })), heartbeatMs)]
  response.once('close', () => timers.forEach(clearInterval))
  if (variant === 'b') {
    const data = { message: `Connected to ${collection} stream` }
    response.write(unnamed({ type: 'connection', collection, data, timestamp: now() }))
    return
  }
  const id = randomUUID()
  const connected = (/** @type {object} */ data) =>
    response.write(named('connection', { collection, data, timestamp: now() }))
  connected({ client_id: id, timestamp: now() })
  connected({ clientId: id, connected: true })
}

/** @param {string} type @param {object} event */
const named = (type, event) => `event: ${type}\ndata: ${JSON.stringify(event)}\n\n`
/** @param {object} event */
const unnamed = (event) => `data: ${JSON.stringify(event)}\n\n`

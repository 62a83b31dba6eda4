import type { ServerOptions } from 'node:http'
import type { FastifyInstance } from 'fastify'
import type { Config } from '../config/index.js'
import { DualstoreError } from '../errors.js'

/** How often Node looks for heads that are late, at most. */
const CHECK_MS = 5000
/** A server that is full says so once in this time. */
const SAY_MS = 10_000

/** What Node's HTTP server itself must be made with. */
export function httpOptions(config: Config): ServerOptions {
  return {
    maxHeaderSize: config.headerLimitBytes,
    headersTimeout: config.headersTimeoutMs,
    connectionsCheckingInterval: Math.min(CHECK_MS, Math.ceil(config.headersTimeoutMs / 4)),
  }
}

/** Bounds on connections, on URLs, and on how long an answer may wait to be read. */
export function registerConnections(app: FastifyInstance, config: Config): void {
  const { server } = app
  server.maxConnections = config.maxConnections
  let said = Number.NEGATIVE_INFINITY
  server.on('drop', () => {
    if (performance.now() - said < SAY_MS) return
    said = performance.now()
    app.log.warn({ maxConnections: config.maxConnections }, 'refusing connections: there are too many')
  })

  app.addHook('onRequest', (request, _reply, done) => {
    if (request.raw.url !== undefined && request.raw.url.length > config.urlLimitBytes) {
      throw new DualstoreError('URI_TOO_LONG', `the URL is longer than ${config.urlLimitBytes} bytes`)
    }
    done()
  })

  // Node ends a socket on which nothing moves for so long, and sets its own time again when the answer is done.
  // Streams of events are not answered through here and look after themselves.
  app.addHook('onSend', (request, _reply, payload, done) => {
    request.raw.socket?.setTimeout?.(config.answerIdleTimeoutMs)
    done(null, payload)
  })
}

import type { FastifyInstance, FastifyRequest } from 'fastify'
import { DualstoreError } from '../errors.js'
import { endWith } from './client-errors.js'

export interface BodyTimeoutOptions {
  /** Over how long a body's pace is judged, and so how long it may stand still, in milliseconds. */
  bodyIdleTimeoutMs: number
  /** What it must bring on average over that time. */
  bodyMinBytesPerSecond: number
}

/**
 * Ends requests whose bodies come too slowly, which would be kept for ever otherwise. A pace and no total time, so
 * that an import may take as long as it takes.
 */
export function registerBodyTimeouts(app: FastifyInstance, options: BodyTimeoutOptions): void {
  const { bodyIdleTimeoutMs: windowMs, bodyMinBytesPerSecond } = options
  const least = Math.max(1, (bodyMinBytesPerSecond * windowMs) / 1000)
  app.addHook('preParsing', (request, _reply, payload, done) => {
    endWhenSlow(request, windowMs, least)
    done(null, payload)
  })
}

function endWhenSlow({ raw, log }: FastifyRequest, windowMs: number, least: number): void {
  // Most bodies have come with their heads.
  if (raw.complete) return
  if (raw.headers['content-length'] === undefined && raw.headers['transfer-encoding'] === undefined) return
  const { socket } = raw
  // Injected requests have no real socket.
  if (typeof socket?.bytesRead !== 'number') return
  let before = socket.bytesRead
  const timer = setInterval(() => {
    const came = socket.bytesRead - before
    before = socket.bytesRead
    // What has come and was not taken yet is not the client's doing.
    if (came >= least || raw.readableLength > 0) return
    log.info({ bytes: came, windowMs }, 'a request body came too slowly')
    endWith(socket, new DualstoreError('REQUEST_TIMEOUT', 'the body came too slowly'))
  }, windowMs)
  timer.unref()
  const stop = () => clearInterval(timer)
  raw.once('end', stop)
  raw.once('close', stop)
}

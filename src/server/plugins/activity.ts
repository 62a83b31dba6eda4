import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Activity, during, type Timings } from '../activity.js'
import { withoutSecrets } from '../services/key-format.js'
import type { RequestSpan, Tracing } from '../telemetry/tracing.js'
import { isHealth } from './health-paths.js'

export interface ActivityOptions {
  tracing: Tracing | undefined
  /** Tell clients in Server-Timing how long an answer took. */
  serverTiming: boolean
}

interface Watched {
  activity: Activity
  span: RequestSpan | undefined
}

/** Watches what is done for each request. Registers nothing, and so costs nothing, when nobody wants to know. */
export function registerActivity(app: FastifyInstance, { tracing, serverTiming }: ActivityOptions): void {
  if (tracing === undefined && !serverTiming) return
  const watched = new WeakMap<FastifyRequest, Watched>()

  app.addHook('onRequest', (request, _reply, done) => {
    const route = request.routeOptions.url ?? 'none'
    if (isHealth(request) || route === '/metrics') return done()
    const span = tracing?.request({
      method: request.method,
      route,
      path: withoutSecrets(request.url.split('?', 1)[0] ?? ''),
      requestId: request.id,
      headers: request.headers,
    })
    const activity = new Activity(span, serverTiming ? {} : undefined)
    watched.set(request, { activity, span })
    during(activity, done)
  })
  // A body is read in the context of its socket, and what comes behind it too.
  app.addHook('preValidation', (request, _reply, done) => {
    const known = watched.get(request)
    if (known === undefined) return done()
    during(known.activity, done)
  })
  if (serverTiming) {
    app.addHook('onSend', (request, reply, payload, done) => {
      const timings = watched.get(request)?.activity.timings
      if (timings !== undefined) reply.header('server-timing', headerOf(timings, reply.elapsedTime))
      done(null, payload)
    })
  }
  app.addHook('onResponse', (request, reply, done) => {
    watched.get(request)?.span?.answered(reply.statusCode)
    done()
  })
  app.addHook('onRequestAbort', (request, done) => {
    watched.get(request)?.span?.end(new Error('the client has gone'))
    done()
  })
}

const names: Readonly<Record<keyof Timings, string>> = { postgresql: 'db', mongodb: 'mirror', cache: 'cache' }

/** `db;dur=1.2, total;dur=3.4`: milliseconds. */
function headerOf(timings: Timings, total: number): string {
  const parts = Object.entries(timings).map(([store, ms]) => part(names[store as keyof Timings], ms))
  return [...parts, part('total', total)].join(', ')
}

function part(name: string, ms: number): string {
  return `${name};dur=${Math.round(ms * 10) / 10}`
}

import type { FastifyInstance, onResponseHookHandler } from 'fastify'
import type { Counters } from '../services/metrics/counters.js'

/**
 * Counts every answer by the pattern of its route, never by its path: ids would make a series each. Register before
 * the routes: each gets what counts it when it is made, so that nothing is looked up when it is called.
 */
export function registerMetrics(app: FastifyInstance, counters: Counters): void {
  app.addHook('onRoute', (route) => {
    const known = new Map([route.method].flat().map((name) => [name, counters.route(name, route.url)]))
    const count: onResponseHookHandler = (request, reply, done) => {
      known.get(request.method)?.(reply.statusCode, reply.elapsedTime / 1000)
      done()
    }
    route.onResponse = [count, ...[route.onResponse ?? []].flat()]
  })
  const others = new Map<string, ReturnType<Counters['route']>>()
  app.addHook('onResponse', (request, reply, done) => {
    if (!request.is404) return done()
    const method = OFTEN.has(request.method) ? request.method : 'other'
    const count = others.get(method) ?? counters.route(method, 'none')
    others.set(method, count)
    count(reply.statusCode, reply.elapsedTime / 1000)
    done()
  })
}

const OFTEN = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

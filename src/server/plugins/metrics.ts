import type { FastifyInstance } from 'fastify'
import type { Counters } from '../services/metrics/counters.js'

/** Counts every answer by the pattern of its route, never by its path: ids would make a series each. */
export function registerMetrics(app: FastifyInstance, counters: Counters): void {
  app.addHook('onResponse', (request, reply, done) => {
    counters.answered({
      method: request.method,
      route: request.routeOptions.url ?? 'none',
      status: reply.statusCode,
      seconds: reply.elapsedTime / 1000,
    })
    done()
  })
}

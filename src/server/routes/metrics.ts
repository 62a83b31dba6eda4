import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '../schemas/type.js'
import type { MetricsService } from '../services/metrics.js'
import { answers } from './answers.js'

export interface MetricsRoutesOptions {
  metrics: MetricsService
}

/** Metrics for Prometheus; docs/operations.md says what they mean. */
export const metricsRoutes: FastifyPluginAsyncTypebox<MetricsRoutesOptions> = async (app, { metrics }) => {
  app.get(
    '/metrics',
    {
      schema: {
        tags: ['health'],
        operationId: 'metrics',
        summary: "Metrics in Prometheus' text format",
        produces: ['text/plain'],
        response: answers({ 200: Type.String() }),
      },
    },
    async (_request, reply) => reply.type(metrics.contentType).send(await metrics.text()),
  )
}

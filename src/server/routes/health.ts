import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '../schemas/type.js'
import type { StatusService } from '../services/status.js'

export interface HealthRoutesOptions {
  status: StatusService
  version: string
}

const tags = ['health']
const CheckSchema = Type.Object(
  { ok: Type.Boolean(), reason: Type.Optional(Type.String()) },
  { additionalProperties: true },
)
const ReadinessSchema = Type.Object({
  ready: Type.Boolean(),
  checks: Type.Object({ postgres: CheckSchema, mirror: CheckSchema }),
})

export const healthRoutes: FastifyPluginAsyncTypebox<HealthRoutesOptions> = async (
  app,
  { status, version },
) => {
  app.get(
    '/health',
    {
      schema: {
        tags,
        operationId: 'health',
        summary: "The legacy server's health, with its stores",
        response: {
          200: Type.Object({
            status: Type.Literal('ok'),
            timestamp: Type.String(),
            uptime: Type.Number({ description: 'Seconds' }),
            version: Type.String(),
            stores: Type.Record(Type.String(), Type.Boolean()),
          }),
        },
      },
    },
    async () => ({
      status: 'ok' as const,
      timestamp: new Date().toISOString(),
      uptime: process.uptime(),
      version,
      stores: await status.stores(),
    }),
  )

  app.get(
    '/health/live',
    {
      schema: {
        tags,
        operationId: 'live',
        summary: 'The process answers',
        response: { 200: Type.Object({ status: Type.Literal('ok') }) },
      },
    },
    async () => ({ status: 'ok' as const }),
  )

  app.get(
    '/health/ready',
    {
      schema: {
        tags,
        operationId: 'ready',
        summary: 'The server can serve; 503 tells why not',
        response: { 200: ReadinessSchema, 503: ReadinessSchema },
      },
    },
    async (_request, reply) => {
      const readiness = await status.readiness()
      return reply.code(readiness.ready ? 200 : 503).send(readiness)
    },
  )
}

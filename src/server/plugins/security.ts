import cors from '@fastify/cors'
import helmet from '@fastify/helmet'
import rateLimit from '@fastify/rate-limit'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Config } from '../config/index.js'
import { DualstoreError } from '../errors.js'

/** Headers a browser client may read and send besides the simple ones. */
const EXPOSED = [
  'etag',
  'location',
  'retry-after',
  'x-dualstore-position',
  'x-dualstore-source',
  'x-request-id',
]

/** What the probe's answer has because it is an answer. */
const OF_THE_ANSWER = new Set(['content-length', 'date', 'connection'])

/** Security headers, CORS and the legacy rate limit. */
export async function registerSecurity(app: FastifyInstance, config: Config): Promise<void> {
  const headers = await helmetHeaders()
  app.addHook('onRequest', (_request, reply, done) => {
    reply.headers(headers)
    done()
  })
  const any = config.corsOrigin.includes('*')
  await app.register(cors, {
    origin: any ? '*' : [...config.corsOrigin],
    // Browsers refuse * together with credentials (defect 8).
    credentials: config.corsCredentials && !any,
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'],
    exposedHeaders: EXPOSED,
  })
  if (config.rateLimitMaxRequests === undefined) return
  await app.register(rateLimit, {
    max: config.rateLimitMaxRequests,
    timeWindow: config.rateLimitWindowMs,
    allowList: (request) => request.url.startsWith('/health'),
    errorResponseBuilder: (_request, context) =>
      new DualstoreError(
        'TOO_MANY_REQUESTS',
        `at most ${context.max} requests in ${context.after}; try again later`,
      ),
  })
}

/**
 * The headers that helmet gives every answer. They never change, so they are asked for once: the plugin builds its
 * whole middleware anew for each request, which took a sixth of the processor time of a GET. The policy for content
 * is set where there is content, by the documentation's pages.
 */
async function helmetHeaders(): Promise<Record<string, string>> {
  const probe = Fastify()
  await probe.register(helmet, { contentSecurityPolicy: false })
  probe.get('/', (_request, reply) => reply.send())
  const { headers } = await probe.inject('/')
  await probe.close()
  const own = Object.entries(headers).filter(([name]) => !OF_THE_ANSWER.has(name))
  return Object.fromEntries(own.map(([name, value]) => [name, String(value)]))
}

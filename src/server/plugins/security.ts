import cors, { type FastifyCorsOptions } from '@fastify/cors'
import helmet from '@fastify/helmet'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Config } from '../config/index.js'

/** Headers a browser client may read and send besides the simple ones. */
const EXPOSED = [
  'etag',
  'location',
  'ratelimit-limit',
  'ratelimit-remaining',
  'ratelimit-reset',
  'retry-after',
  'x-dualstore-position',
  'x-dualstore-source',
  'x-request-id',
]

const NOTHING = { defaultSrc: ["'none'"], frameAncestors: ["'none'"] }

/** What the probe's answer has because it is an answer. */
const OF_THE_ANSWER = new Set(['content-length', 'date', 'connection'])

/** What the plugin tells every origin when all are welcome. */
const FOR_ANY_ORIGIN = {
  'access-control-allow-origin': '*',
  'access-control-expose-headers': EXPOSED.join(', '),
}

/** Security headers and CORS. */
export async function registerSecurity(app: FastifyInstance, config: Config): Promise<void> {
  const headers = await helmetHeaders()
  const any = config.corsOrigin.includes('*')
  const always = any ? { ...headers, ...FOR_ANY_ORIGIN } : headers
  app.addHook('onRequest', (_request, reply, done) => {
    reply.headers(always)
    done()
  })
  const options: FastifyCorsOptions = {
    origin: any ? '*' : [...config.corsOrigin],
    // Browsers refuse * together with credentials (defect 8).
    credentials: config.corsCredentials && !any,
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'],
    exposedHeaders: EXPOSED,
  }
  // Where every origin is told the same, the plugin answers preflights alone: its hook, in a scope of its own, meets
  // no other request, of which it would take a tenth of the time.
  if (any) await app.register(async (preflights) => void (await preflights.register(cors, options)))
  else await app.register(cors, options)
}

/**
 * The headers that helmet gives every answer. They never change, so they are asked for once: the plugin builds its
 * whole middleware anew for each request, which took a sixth of the processor time of a GET. An answer is data: a
 * browser that takes one for a page must run nothing of it. The documentation's pages set a policy of their own.
 */
async function helmetHeaders(): Promise<Record<string, string>> {
  const probe = Fastify()
  await probe.register(helmet, { contentSecurityPolicy: { useDefaults: false, directives: NOTHING } })
  probe.get('/', (_request, reply) => reply.send())
  const { headers } = await probe.inject('/')
  await probe.close()
  const own = Object.entries(headers).filter(([name]) => !OF_THE_ANSWER.has(name))
  return Object.fromEntries(own.map(([name, value]) => [name, String(value)]))
}

import { randomUUID } from 'node:crypto'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify'
import type { Context } from './context.js'
import { DualstoreError } from './errors.js'
import { authIsOn, registerAuth } from './plugins/auth.js'
import { answerClientError } from './plugins/client-errors.js'
import { registerErrors, sendError } from './plugins/errors.js'
import { registerOpenApi } from './plugins/openapi.js'
import { registerParsing } from './plugins/parsing.js'
import { registerSecurity } from './plugins/security.js'
import { bulkRoutes } from './routes/bulk.js'
import { collectionRoutes } from './routes/collections.js'
import { documentRoutes } from './routes/documents.js'
import { dualstoreRoutes } from './routes/dualstore.js'
import { healthRoutes } from './routes/health.js'
import { importRoutes } from './routes/import.js'
import { indexRoutes } from './routes/index.js'
import { streamingRoutes } from './routes/streaming.js'

/** An id of 512 bytes, every one of them percent-encoded. */
const MAX_PARAM_LENGTH = 512 * 3
const LOOPBACK = /^(localhost|127(\.\d+){3}|::1|\[::1\])$/

/** Builds the HTTP application on an open context. Nothing listens and nothing is started. */
export async function buildApp(context: Context, logger: FastifyBaseLogger): Promise<FastifyInstance> {
  const { config, documents, listing, collections, transfer, streams, status } = context
  const development = config.nodeEnv === 'development'
  const app = Fastify({
    loggerInstance: logger,
    // One line when a request is done, below, instead of Fastify's two.
    logController: new LogController({ disableRequestLogging: true }),
    clientErrorHandler: answerClientError,
    bodyLimit: config.bodyLimitBytes,
    keepAliveTimeout: config.keepAliveTimeoutMs,
    // Answered below, in the same form as every other error.
    return503OnClosing: false,
    trustProxy: config.trustProxy,
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
    // A client's own id is taken when it is harmless in a log line.
    genReqId: (request) => {
      const given = request.headers['x-request-id']
      return typeof given === 'string' && /^[\w.:-]{1,128}$/.test(given) ? given : randomUUID()
    },
    frameworkErrors: (error, request, reply) => void sendError(error, request, reply, { development }),
  }).withTypeProvider<TypeBoxTypeProvider>()

  registerErrors(app, { development })
  registerParsing(app, config)
  app.addHook('onRequest', async (request, reply) => void reply.header('x-request-id', request.id))
  app.addHook('onRequest', async (request) => {
    if (!status.closing() || request.url.startsWith('/health')) return
    throw new DualstoreError(
      'SHUTTING_DOWN',
      'this server is shutting down; try again, another one may answer',
    )
  })
  // The server waits for connections that are kept alive: an answer while it closes is the last on its connection.
  app.addHook('onSend', (_request, reply, _payload, done) => {
    if (status.closing()) reply.header('connection', 'close')
    done()
  })
  app.addHook('onResponse', async (request, reply) => {
    // What a client was refused can be found by its request id; the rest only when somebody is looking.
    const level = reply.statusCode >= 400 ? 'info' : 'debug'
    request.log[level]({ req: request, res: reply, ms: Math.round(reply.elapsedTime * 10) / 10 }, 'request')
  })
  await registerSecurity(app, config)
  registerAuth(app, config)
  await registerOpenApi(app, config, collections)

  const { apiPrefix, apiVersion: version } = config
  const debugAllowed = authIsOn(config) || LOOPBACK.test(config.host)
  await app.register(indexRoutes, { apiPrefix, version, listing, debugAllowed })
  await app.register(healthRoutes, { status, version })
  await app.register(collectionRoutes, { prefix: apiPrefix, collections })
  const { overview, mirrorControl } = context
  await app.register(dualstoreRoutes, { prefix: apiPrefix, overview, mirrorControl })
  await app.register(bulkRoutes, { prefix: apiPrefix, documents, listing, transfer })
  await app.register(importRoutes, { prefix: apiPrefix, transfer, maxLineBytes: config.bodyLimitBytes })
  await app.register(streamingRoutes, { prefix: apiPrefix, streams, enabled: config.sseEnabled })
  await app.register(documentRoutes, { prefix: apiPrefix, documents, listing })
  app.addHook('onClose', () => context.close())
  return app as unknown as FastifyInstance
}

/** Refuses a configuration that would be open although its operator believes otherwise. */
export function requireSafeConfig({ config }: Context): void {
  if (config.authEnabled && config.authBearerToken === undefined) {
    throw new DualstoreError('INVALID_CONFIG', 'AUTH_ENABLED is true, but AUTH_BEARER_TOKEN is not set')
  }
}

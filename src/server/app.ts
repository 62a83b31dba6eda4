import { randomUUID } from 'node:crypto'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify'
import { authIsOn, isLoopback } from './config/index.js'
import type { Context } from './context.js'
import { DualstoreError } from './errors.js'
import { trustedProxies } from './plugins/address.js'
import { registerAuth, registerRights } from './plugins/auth.js'
import { registerBodyTimeouts } from './plugins/body-timeouts.js'
import { answerClientError } from './plugins/client-errors.js'
import { httpOptions, registerConnections } from './plugins/connections.js'
import { registerErrors, sendError } from './plugins/errors.js'
import { registerMetrics } from './plugins/metrics.js'
import { registerOpenApi } from './plugins/openapi.js'
import { registerParsing } from './plugins/parsing.js'
import { registerPressure } from './plugins/pressure.js'
import { registerQueryTokens } from './plugins/query-token.js'
import { registerRateLimits } from './plugins/rate-limits.js'
import { createRequestLog } from './plugins/request-log.js'
import { guardRoutes } from './plugins/rights.js'
import { registerSecurity } from './plugins/security.js'
import { registerTokenCodec } from './plugins/token-codec.js'
import { bulkRoutes } from './routes/bulk.js'
import { collectionRoutes } from './routes/collections.js'
import { documentAuditRoutes } from './routes/document-audit.js'
import { documentRoutes } from './routes/documents.js'
import { dualstoreRoutes } from './routes/dualstore.js'
import { healthRoutes } from './routes/health.js'
import { importRoutes } from './routes/import.js'
import { indexRoutes } from './routes/index.js'
import { jobRoutes } from './routes/jobs.js'
import { keyRoutes } from './routes/keys.js'
import { metricsRoutes } from './routes/metrics.js'
import { parkedRoutes } from './routes/parked.js'
import { streamingRoutes } from './routes/streaming.js'
import { tokenRoutes } from './routes/tokens.js'
import { createAuthFailures } from './services/auth-failures.js'
import { createLegacyAuthenticator, createMetricsAuthenticator } from './services/fixed-token.js'

/** An id of 512 bytes, every one of them percent-encoded. */
const MAX_PARAM_LENGTH = 512 * 3

/** Builds the HTTP application on an open context. Nothing listens and nothing is started. */
export async function buildApp(context: Context, logger: FastifyBaseLogger): Promise<FastifyInstance> {
  const { config, documents, documentAudit, listing, collections, transfer, streams, status } = context
  const { keys, audit, metrics } = context
  const development = config.nodeEnv === 'development'
  const someoneIsLooking = logger.level === 'debug' || logger.level === 'trace'
  const app = Fastify({
    loggerInstance: logger,
    childLoggerFactory: createRequestLog,
    // One line when a request is done, below, instead of Fastify's two.
    logController: new LogController({ disableRequestLogging: true }),
    clientErrorHandler: answerClientError,
    bodyLimit: config.bodyLimitBytes,
    keepAliveTimeout: config.keepAliveTimeoutMs,
    // Answered below, in the same form as every other error.
    return503OnClosing: false,
    trustProxy: trustedProxies(config.trustProxy),
    http: httpOptions(config),
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
    // A client's own id is taken when it is harmless in a log line.
    genReqId: (request) => {
      const given = request.headers['x-request-id']
      return typeof given === 'string' && /^[\w.:-]{1,128}$/.test(given) ? given : randomUUID()
    },
    frameworkErrors: (error, request, reply) => void sendError(error, request, reply, { development }),
  }).withTypeProvider<TypeBoxTypeProvider>()

  const allRoutesAreThere = guardRoutes(app, config.openapiPath)
  registerErrors(app, { development })
  registerParsing(app)
  registerBodyTimeouts(app, config)
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id)
    done()
  })
  registerConnections(app, config)
  app.addHook('onRequest', (request, _reply, done) => {
    if (!status.closing() || request.url.startsWith('/health')) return done()
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
  app.addHook('onResponse', (request, reply, done) => {
    // What a client was refused can be found by its request id; the rest only when somebody is looking.
    const level = reply.statusCode >= 400 ? 'info' : 'debug'
    if (level === 'info' || someoneIsLooking) {
      request.log[level]({ req: request, res: reply, ms: Math.round(reply.elapsedTime * 10) / 10 }, 'request')
    }
    done()
  })
  if (metrics !== undefined) registerMetrics(app, context.counters)
  await registerSecurity(app, config)
  await registerPressure(app, config)
  const tokens = context.tokensWith(await registerTokenCodec(app, { clockSkewMs: config.tokenClockSkewMs }))
  const legacyToken = config.authBearerToken
  registerQueryTokens(app)
  registerAuth(app, {
    enabled: authIsOn(config),
    authenticators: [
      ...(legacyToken === undefined ? [] : [createLegacyAuthenticator(legacyToken)]),
      keys.authenticator,
      tokens.authenticator,
      ...(context.issuer === undefined ? [] : [context.issuer]),
    ],
    queryAuthenticator: tokens.streamAuthenticator,
    metricsAuthenticator:
      config.metricsToken === undefined ? undefined : createMetricsAuthenticator(config.metricsToken),
    legacyAnswers: legacyToken !== undefined,
    failures: createAuthFailures({ perMinute: config.authAttemptsPerMinute }),
  })
  // Before rights: who is refused by them is counted too.
  await registerRateLimits(app, config)
  if (authIsOn(config)) registerRights(app)
  await registerOpenApi(app, config, collections)

  const { apiPrefix, apiVersion: version } = config
  const debugAllowed = authIsOn(config) || isLoopback(config.host)
  await app.register(indexRoutes, { apiPrefix, version, listing, debugAllowed })
  await app.register(healthRoutes, { status, version })
  if (metrics !== undefined) await app.register(metricsRoutes, { metrics })
  await app.register(collectionRoutes, { prefix: apiPrefix, collections })
  const { overview, mirrorControl } = context
  await app.register(dualstoreRoutes, { prefix: apiPrefix, overview, mirrorControl })
  await app.register(tokenRoutes, { prefix: apiPrefix, tokens })
  await app.register(keyRoutes, { prefix: apiPrefix, keys, audit })
  await app.register(bulkRoutes, { prefix: apiPrefix, documents, transfer })
  await app.register(importRoutes, { prefix: apiPrefix, transfer, maxLineBytes: config.bodyLimitBytes })
  await app.register(streamingRoutes, { prefix: apiPrefix, streams, enabled: config.sseEnabled })
  await app.register(documentAuditRoutes, { prefix: apiPrefix, documentAudit })
  await app.register(jobRoutes, { prefix: apiPrefix, jobs: context.jobs })
  await app.register(parkedRoutes, { prefix: apiPrefix, parked: context.parked, foreign: context.foreign })
  await app.register(documentRoutes, { prefix: apiPrefix, documents, listing })
  allRoutesAreThere()
  app.addHook('onClose', () => context.close())
  return app as unknown as FastifyInstance
}

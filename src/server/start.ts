import closeWithGrace from 'close-with-grace'
import type { FastifyInstance } from 'fastify'
import pino, { type DestinationStream, type Logger, type LoggerOptions } from 'pino'
import { authIsOn, type Config, type LoadedConfig, requireSafeConfig } from './config/index.js'
import { openTelemetry, type Telemetry } from './context/telemetry.js'
import type { Context } from './context.js'
import { startEmbedded } from './db/embedded.js'
import { loggedRequest } from './plugins/logged-request.js'
import { errorForLog } from './services/error-for-log.js'
import { withoutSecrets } from './services/key-format.js'
import type { Reports } from './telemetry/reports.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** Where a crash is reported; undefined without an error tracker. */
    reports: Reports | undefined
  }
}

/** A server that listens. */
export interface RunningServer {
  app: FastifyInstance
  /** Where it listens: http://127.0.0.1:3000 */
  url: string
  /** Finishes requests in flight, then closes everything. */
  close(): Promise<void>
}

/**
 * Logs as JSON lines; for people in development. Secrets never reach a line: none is handed to the logger on purpose,
 * and what a client puts in a wrong place is masked.
 * @param destination Where to, instead of stdout.
 */
export function createLogger(config: Config, destination?: DestinationStream): Logger {
  const options: LoggerOptions = {
    level: config.logLevel,
    redact: ['req.headers.authorization', 'req.headers["x-api-key"]', 'req.headers.cookie'],
    serializers: { err: errorForLog, req: loggedRequest },
    // A key in a place where nobody expects one, such as a path.
    hooks: { streamWrite: withoutSecrets },
  }
  if (destination !== undefined) return pino(options, destination)
  return pino(
    config.nodeEnv === 'development' ? { ...options, transport: { target: 'pino-pretty' } } : options,
  )
}

/** Whether anybody may call this server is said at every start. */
async function tellAuthentication({ config, keys, log }: Context): Promise<void> {
  if (!authIsOn(config)) {
    log.warn({ host: config.host }, 'authentication is off: whoever reaches this address may do everything')
  } else if (config.authBearerToken !== undefined) {
    log.warn({}, 'deprecated: the single bearer token of the legacy server is in use; make keys instead')
  } else if (!(await keys.anyActive())) {
    log.warn({}, 'no key can be used yet; make one with: dualstore keys create --role admin --name first')
  }
}

/** Opens both stores and builds the application, ready for listen() or inject(). Closing it closes everything. */
export async function createApp(config: Config, logger: Logger): Promise<FastifyInstance> {
  const telemetry = await openTelemetry(config, logger)
  try {
    return await openApp(config, logger, telemetry)
  } catch (error) {
    await telemetry.close()
    throw error
  }
}

async function openApp(config: Config, logger: Logger, telemetry: Telemetry): Promise<FastifyInstance> {
  // PostgreSQL starts while the rest of the program is read.
  const embedded = config.databaseUrl === undefined ? startEmbedded(config.dataDir) : undefined
  embedded?.catch(() => {})
  // And the routes are read while the stores open.
  const reading = import('./app.js')
  reading.catch(() => {})
  const { openContext } = await import('./context.js')
  const context = await openContext(config, logger, { migrate: 'any', embedded })
  try {
    const { buildApp } = await reading
    await tellAuthentication(context)
    const app = await buildApp(context, logger, telemetry)
    app.decorate('reports', telemetry.reports)
    app.addHook('preClose', async () => {
      context.status.shutDown()
      // Their clients are to come back, so they must not keep this server from closing.
      context.streams.close()
    })
    context.startFollowers(telemetry.tracing?.batch)
    return app
  } catch (error) {
    await context.close().catch(() => {})
    throw error
  }
}

/**
 * Runs the server until SIGTERM or SIGINT: it then stops accepting, finishes requests, writes what is gathered, stops
 * followers, closes the stores and exits with 0, within the grace period; a second signal exits at once.
 */
export async function serve({ config, withoutEffect }: LoadedConfig): Promise<RunningServer> {
  requireSafeConfig(config)
  const logger = createLogger(config)
  for (const name of withoutEffect)
    logger.warn({ setting: name }, 'this setting has no effect in this version')
  const starting = listening(config, logger)
  // A signal that comes during the start closes what the start has opened by then.
  const grace = closeWithGrace({ delay: config.shutdownGraceMs, logger }, async ({ signal, err }) => {
    if (err) logger.fatal({ err }, 'closing after an unexpected error')
    else logger.info({ signal }, 'closing')
    const server = await starting.catch(() => undefined)
    if (err) server?.app.reports?.report(err, {})
    await server?.app.close()
    logger.info({}, 'closed')
  })
  try {
    const { app, url } = await starting
    return {
      app,
      url,
      close: async () => {
        grace.uninstall()
        await app.close()
      },
    }
  } catch (error) {
    grace.uninstall()
    throw error
  }
}

/** Connections that may wait to be accepted, as far as the system allows. Node's 511 are few when everybody comes back. */
const BACKLOG = 4096

async function listening(config: Config, logger: Logger): Promise<{ app: FastifyInstance; url: string }> {
  const app = await createApp(config, logger)
  try {
    const url = await app.listen({
      host: config.host,
      port: config.port,
      backlog: BACKLOG,
      listenTextResolver: (address) => `dualstore listens on ${address}`,
    })
    return { app, url }
  } catch (error) {
    await app.close()
    throw error
  }
}

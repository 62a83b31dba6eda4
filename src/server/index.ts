import type { FastifyInstance } from 'fastify'
import { type ConfigSources, loadConfig } from './config/index.js'
import { createApp, createLogger, type RunningServer, serve } from './start.js'

export type { Config, SettingKey } from './config/index.js'
export { DualstoreError, type ErrorCode } from './errors.js'
export type { RunningServer } from './start.js'

/** Settings by name, as `dualstore config` lists them. */
export type ServerOptions = NonNullable<ConfigSources['given']>

/**
 * Opens both stores and resolves to a Fastify instance that is ready for `listen` or `inject`; its `close()` closes
 * everything. Reads the environment and the configuration file for what the options do not say.
 * @throws DualstoreError INVALID_CONFIG, EMBEDDED_STORE, STORE_UNAVAILABLE or SCHEMA_TOO_NEW
 */
export async function createServer(options: ServerOptions = {}): Promise<FastifyInstance> {
  const { config } = loadConfig({ given: options, env: process.env })
  return createApp(config, createLogger(config))
}

/** Reads the environment, listens, and shuts down on SIGTERM or SIGINT. */
export async function start(options: ServerOptions = {}): Promise<RunningServer> {
  return serve(loadConfig({ given: options, env: process.env }))
}

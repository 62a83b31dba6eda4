import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import type { Pool } from '../../src/server/db/pool.js'
import { createServer, type ServerOptions } from '../../src/server/index.js'
import { testDatabase } from './database.js'
import { bodies, call } from './http.js'
import { atEndOfFile } from './leaks.js'
import { testMongo } from './mongo.js'

/** Both implementations of the mirror: the same tests run over each. */
export const mirrorKinds = ['embedded', 'mongodb'] as const
export type MirrorKind = (typeof mirrorKinds)[number]

/**
 * The application on a database of the test file's own, with a mirror of the given kind, ready for inject(). Closed
 * after the file's last test.
 * @param extend Adds routes of the test's own before the application is ready.
 */
export async function testServer(
  kind: MirrorKind = 'embedded',
  options: ServerOptions = {},
  extend: (app: FastifyInstance) => void = () => {},
): Promise<FastifyInstance> {
  const databaseUrl = options.databaseUrl ?? (await testDatabase()).url
  const dataDir = await mkdtemp(join(tmpdir(), 'dualstore-test-'))
  const mongo = kind === 'mongodb' ? await testMongo() : undefined
  const app = await createServer({
    databaseUrl,
    dataDir,
    logLevel: 'silent',
    // The machine that tests run on may be too busy; what a server does then has tests of its own.
    maxEventLoopDelayMs: 0,
    waitTimeoutMs: 20_000,
    ...(mongo && { mongodbUri: mongo.uri, mongodbDatabase: mongo.database }),
    ...options,
  })
  extend(app)
  await app.ready()
  atEndOfFile(async () => {
    await app.close()
    await mongo?.close()
    await rm(dataDir, { recursive: true, force: true })
  })
  return app
}

/** The same on a free loopback port, and a pool to look past it into its database. */
export async function listeningServer(
  options: Omit<ServerOptions, 'databaseUrl'> = {},
): Promise<{ app: FastifyInstance; base: string; pool: Pool }> {
  const { url: databaseUrl, pool } = await testDatabase()
  const app = await testServer('embedded', { ...options, databaseUrl })
  return { app, base: await app.listen({ host: '127.0.0.1', port: 0 }), pool }
}

/** A server with a collection "notes" that takes any object, and an agent task "standing", for hostile and random input. */
export async function serverWithNotes(): Promise<FastifyInstance> {
  const app = await testServer('embedded', {
    bodyLimitBytes: 1024 * 1024,
    bodyIdleTimeoutMs: 300,
  })
  await call(app, 'POST', '/api/v1/collections', {
    body: { name: 'notes', schema: { type: 'object' }, indexes: [{ fields: ['key'] }, { type: 'text' }] },
  })
  await call(app, 'PUT', '/api/v1/agent_tasks/standing', { body: bodies.agent_tasks })
  return app
}

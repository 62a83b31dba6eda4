import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { createServer, type ServerOptions } from '../../src/server/index.js'
import { testDatabase } from './database.js'
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
  const database = await testDatabase()
  const dataDir = await mkdtemp(join(tmpdir(), 'dualstore-test-'))
  const mongo = kind === 'mongodb' ? await testMongo() : undefined
  const app = await createServer({
    databaseUrl: database.url,
    dataDir,
    logLevel: 'silent',
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

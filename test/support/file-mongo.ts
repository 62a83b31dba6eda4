import { atEndOfFile } from './leaks.js'
import { type MongoServer, serverIsAvailable, startMongo } from './mongo.js'

/** A MongoDB server of the test file's own, stopped after its last test; undefined when there is none to be had. */
export async function serverOfFile(): Promise<MongoServer | undefined> {
  if (!(await serverIsAvailable())) return undefined
  const server = await startMongo()
  atEndOfFile(() => server.stop())
  return server
}

import { type Collection, type Db, MongoClient } from 'mongodb'
import { invalid } from '../../server/errors.js'
import type { FollowedBatch, Source } from './contract.js'
import { merge } from './merge.js'
import { followCollection, placeNow } from './mongo-follow.js'
import { readBatches } from './mongo-read.js'
import { mongoSourceError } from './unavailable.js'

export interface MongoSourceOptions {
  /** Connection string. Its read preference holds. */
  uri: string
  database: string
  /** In front of every collection name, joined by an underscore: AGENT_NAME of the legacy server. */
  agentName: string
  /** Follow by change stream where the source gives one; true by default. */
  changeStreams?: boolean
  /** Documents in one batch; 1,000 by default. */
  batch?: number
  /** Milliseconds to find the server and to connect to it; 10 seconds by default. */
  connectTimeoutMs?: number
  log?: { warn(fields: object, message: string): void }
}

const IDENTITY = 'mongodb '
const CONNECT_TIMEOUT_MS = 10_000
// The server takes long only to find the first document of a large collection.
const ANSWER_TIMEOUT_MS = 600_000

/**
 * The MongoDB of a legacy server: complete, so nothing is lost. Connects with the first request. Every failure is
 * SOURCE_UNAVAILABLE, after which reading and following go on from the last checkpoint.
 * @throws INVALID_REQUEST when the connection string cannot be read.
 */
export function openMongoSource(options: MongoSourceOptions): Source {
  const { database, agentName, changeStreams = true, batch, log } = options
  const client = newClient(options)
  const { srvHost, hosts } = client.options
  const servers = srvHost ?? hosts.map(String).sort().join(',')
  const name = `mongodb${srvHost === undefined ? '' : '+srv'}://${servers}/${database} (${agentName}_*)`

  async function request<T>(work: (db: Db) => Promise<T>): Promise<T> {
    try {
      await client.connect()
      return await work(client.db(database))
    } catch (error) {
      throw mongoSourceError(name, error)
    }
  }
  async function* sequence<T>(
    collection: string,
    open: (collection: Collection) => AsyncGenerator<T>,
  ): AsyncGenerator<T> {
    try {
      await client.connect()
      yield* open(client.db(database).collection(`${agentName}_${collection}`))
    } catch (error) {
      throw mongoSourceError(name, error)
    }
  }

  return {
    kind: 'mongo',
    name,
    identity: `${IDENTITY}${servers.toLowerCase()}/${database}/${agentName}`,
    losses: async () => [],

    collections: (names) =>
      request(async (db) => {
        const stored = names.map((collection) => `${agentName}_${collection}`)
        const found = await db.listCollections({ name: { $in: stored } }, { nameOnly: true }).toArray()
        const there = new Set(found.map((collection) => collection.name))
        const asked = names.filter((collection) => there.has(`${agentName}_${collection}`))
        return Promise.all(
          asked.map(async (collection) => {
            const documents = await db.collection(`${agentName}_${collection}`).estimatedDocumentCount()
            return { collection, documents }
          }),
        )
      }),

    mark: (collection) =>
      request((db) => {
        const { signal } = new AbortController()
        return placeNow({
          collection: db.collection(`${agentName}_${collection}`),
          changeStreams,
          signal,
          log,
        })
      }),

    read: (collection, checkpoint, signal) =>
      sequence(collection, (there) => readBatches(there, { after: checkpoint, size: batch, signal })),

    follow: ({ collections, checkpoints, pollMs, signal }) =>
      merge(
        collections.map((collection) =>
          sequence(collection, async function* (there): AsyncGenerator<FollowedBatch> {
            const following = { collection: there, pollMs, changeStreams, signal, log }
            for await (const batch of followCollection(following, checkpoints.get(collection) ?? ''))
              yield { ...batch, collection }
          }),
        ),
      ),

    close: () => client.close(),
  }
}

/** The servers that a connection string names, each as host:port. @throws INVALID_REQUEST when it cannot be read */
export function serversOf(uri: string): string[] {
  const { srvHost, hosts } = newClient({ uri, database: '', agentName: '' }).options
  const servers = srvHost === undefined ? hosts.map(String) : [srvHost]
  return servers.map((server) => server.toLowerCase().replace(/^(localhost|\[::1\])(?=:|$)/, '127.0.0.1'))
}

/** Where in its server a source lies, from its identity; undefined for that of another kind of source. */
export function mongoPlaceOf(identity: string): { database: string; agentName: string } | undefined {
  if (!identity.startsWith(IDENTITY)) return undefined
  const [, database, ...agentName] = identity.split('/')
  return database === undefined ? undefined : { database, agentName: agentName.join('/') }
}

function newClient({ uri, connectTimeoutMs = CONNECT_TIMEOUT_MS }: MongoSourceOptions): MongoClient {
  try {
    return new MongoClient(uri, {
      appName: 'dualstore-migrate',
      serverSelectionTimeoutMS: connectTimeoutMs,
      connectTimeoutMS: connectTimeoutMs,
      socketTimeoutMS: ANSWER_TIMEOUT_MS,
    })
  } catch {
    // The driver's words may quote the connection string, password included.
    throw invalid('mongo-uri', 'must be a connection string of MongoDB, such as mongodb://127.0.0.1:27017')
  }
}

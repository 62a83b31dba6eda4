import { type Collection, type Db, type Document, MongoClient, type MongoClientOptions } from 'mongodb'
import { step } from '../activity.js'
import { DualstoreError } from '../errors.js'
import type { CollectionDefinition } from '../schemas/collection.js'
import type { LegacyDocument, Mark, Mirror } from './contract.js'
import { fromLegacy } from './legacy-shape.js'
import { createAudit } from './mongo-audit.js'
import { isRefusal, mongoError, unavailable } from './mongo-errors.js'
import { ensureIndexes, legacyIndexes, missingOf } from './mongo-indexes.js'
import { applyChanges, ours } from './mongo-writes.js'

export interface MongoMirrorOptions {
  uri: string
  database: string
  /** In front of every collection name, joined by an underscore: AGENT_NAME. */
  prefix: string
  /**
   * Milliseconds that each part of a request may take: to find a primary, to get a connection, to be answered. A
   * request therefore ends within three times this, and the server stops working on it this long after it came in.
   */
  timeoutMs: number
  log?: { warn(details: object, message: string): void }
}

const BATCH = 500
const MARK = { _id: 1, 'dualstore.seq': 1 } as const
// Counting, scanning from the start and building an index take as long as the collection is large.
const PATIENT_TIMEOUT_MS = 600_000

/**
 * A mirror in MongoDB 5 to 8. Nothing is connected before the first request, so a MongoDB that is down never stops
 * a server from starting.
 *
 * An `_id` that is an id of ours is ours: a document found under it without a position, because another program
 * replaced it or because it is the legacy copy of a migrated document, counts as older than every change.
 * @throws INVALID_CONFIG when the connection string cannot be read.
 */
export function openMongoMirror(options: MongoMirrorOptions): Mirror {
  const { timeoutMs } = options
  const prompt = connection(options, timeoutMs)
  // For requests that take longer than `timeoutMs` by nature. A server that is stuck is noticed by the heartbeat.
  const patient = connection(options, PATIENT_TIMEOUT_MS)
  let closing: Promise<void> | undefined

  function request<T>(name: string, work: () => Promise<T>): Promise<T> {
    return step({ name, store: 'mongodb' }, () => answered(work))
  }

  async function answered<T>(work: () => Promise<T>): Promise<T> {
    if (closing !== undefined) throw unavailable('the mirror is closed')
    try {
      return await work()
    } catch (error) {
      throw mongoError(error)
    }
  }

  return {
    kind: 'mongodb',

    prepare: (definition) =>
      request('prepare', async () => {
        try {
          await ensureIndexes(await patient.collection(definition), legacyIndexes(definition))
        } catch (error) {
          // Without its indexes a mirror is slow to read; without its documents it is useless. So it goes on when
          // the server only refuses an index: too many of them, another one of that name.
          if (!isRefusal(error)) throw error
          options.log?.warn(
            { err: error, collection: definition.name },
            'an index of the mirror cannot be created',
          )
        }
      }),

    apply: (changes) => answered(() => applyChanges(prompt.collection, changes, timeoutMs)),

    get: (definition, id) =>
      request('get', async () => {
        const collection = await prompt.collection(definition)
        const document = await collection.findOne({ _id: id, ...ours }, { maxTimeMS: timeoutMs })
        return document === null ? undefined : fromLegacy(definition, document)
      }),

    async *scan(definition, after) {
      for await (const document of documents(definition, after)) {
        yield fromLegacy(definition, document)
      }
    },

    async *marks(definition, after) {
      for await (const document of documents(definition, after, MARK)) yield markOf(document)
    },

    marksAhead: (definition, { first, last }, seq) =>
      request('marksAhead', async () => {
        const collection = await prompt.collection(definition)
        const ahead = { _id: { $gte: first, $lte: last }, 'dualstore.seq': { $gt: seq } }
        const found = collection.find(ahead, { projection: MARK, maxTimeMS: timeoutMs })
        return (await found.toArray()).map(markOf)
      }),

    recent: (definition, limit) =>
      request('recent', async () => {
        const found = (await patient.collection(definition)).find(ours, { maxTimeMS: PATIENT_TIMEOUT_MS })
        return found.sort({ timestamp: -1 }).limit(limit).toArray()
      }),

    count: (definition) =>
      request('count', async () => {
        const collection = await patient.collection(definition)
        return collection.countDocuments(ours, { maxTimeMS: PATIENT_TIMEOUT_MS })
      }),

    drop: (definition) =>
      request('drop', async () => {
        // The collection itself stays: between finding it empty and dropping it another program could write to it.
        const collection = await prompt.collection(definition)
        let ids: string[] = []
        const remove = () => collection.deleteMany({ _id: { $in: ids }, ...ours }, { maxTimeMS: timeoutMs })
        for await (const { _id } of documents(definition, undefined, { _id: 1 })) {
          if (ids.push(_id) < BATCH) continue
          await remove()
          ids = []
        }
        if (ids.length > 0) await remove()
      }),

    ...createAudit({ collectionOf: patient.collection, request, answered, timeLimitMs: PATIENT_TIMEOUT_MS }),

    ping: () =>
      request('ping', async () => {
        await (await prompt.database()).command({ ping: 1, maxTimeMS: timeoutMs })
      }),

    examine: (definitions) =>
      request('examine', async () => {
        const { localTime } = await (await prompt.database()).command({ hello: 1, maxTimeMS: timeoutMs })
        const missingIndexes: string[] = []
        for (const definition of definitions) {
          const collection = await prompt.collection(definition)
          const missing = await missingOf(collection, legacyIndexes(definition))
          missingIndexes.push(...missing.map((index) => `${collection.collectionName}.${index}`))
        }
        const clock = localTime instanceof Date ? localTime.getTime() : Date.now()
        return { clock, missingIndexes }
      }),

    close: () => {
      closing ??= Promise.all([prompt.close(), patient.close()]).then(() => {})
      return closing
    },
  }

  /** Our documents by ascending `_id`, through one cursor, which the server need not search again for each batch. */
  async function* documents(
    definition: CollectionDefinition,
    after: string | undefined,
    projection: Document = {},
  ): AsyncGenerator<LegacyDocument> {
    // Comparing with a string leaves out other types: ObjectIds are other programs'.
    const range = after === undefined ? { $gte: '' } : { $gt: after }
    const cursor = await request('find', async () => {
      const collection = await patient.collection(definition)
      const options = { projection, maxTimeMS: PATIENT_TIMEOUT_MS, batchSize: BATCH }
      return collection.find({ _id: range, ...ours }, options).sort({ _id: 1 })
    })
    try {
      for (;;) {
        const document = await answered(() => cursor.next())
        if (document === null) return
        yield document
      }
    } finally {
      await cursor.close().catch(() => {})
    }
  }
}

function markOf({ _id, dualstore }: LegacyDocument): Mark {
  return { id: _id, seq: dualstore.seq }
}

/** A client whose database and collections are there once it is connected. */
function connection(options: MongoMirrorOptions, answerTimeoutMs: number) {
  const client = newClient(options, answerTimeoutMs)
  let connecting: Promise<unknown> = Promise.resolve()
  const database = async (): Promise<Db> => {
    // The driver connects by itself only once: after a first attempt that failed it would answer every request with
    // "Topology is closed". When it is connected already this does nothing.
    connecting = client.connect()
    await connecting
    return client.db(options.database)
  }
  return {
    database,
    collection: async (definition: CollectionDefinition): Promise<Collection<LegacyDocument>> =>
      (await database()).collection(`${options.prefix}_${definition.mirror.collection}`),
    close: async (): Promise<void> => {
      // A client that is closed while it connects would be left connected.
      await connecting.catch(() => {})
      await client.close()
    },
  }
}

/** The driver's own `timeoutMS` has had no effect since 7.9; each part of a request has a limit of its own instead. */
function newClient({ uri, timeoutMs }: MongoMirrorOptions, answerTimeoutMs: number): MongoClient {
  const options: MongoClientOptions = {
    appName: 'dualstore',
    serverSelectionTimeoutMS: timeoutMs,
    waitQueueTimeoutMS: timeoutMs,
    connectTimeoutMS: timeoutMs,
    socketTimeoutMS: answerTimeoutMs,
    heartbeatFrequencyMS: Math.max(500, timeoutMs),
    // Whoever follows the log tries again anyway; a retry in here would double every limit above.
    retryWrites: false,
    retryReads: false,
    readPreference: 'primary',
    // I4: a position is stored after the effect is durable, so durable is what an acknowledgement must mean.
    writeConcern: { w: 'majority', journal: true },
  }
  try {
    return new MongoClient(uri, options)
  } catch (cause) {
    // The driver's words may quote the connection string, password included; they stay in the cause.
    throw new DualstoreError('INVALID_CONFIG', 'the connection string of MongoDB cannot be read', { cause })
  }
}

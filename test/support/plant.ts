import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ClassicLevel } from 'classic-level'
import { type Document, MongoClient } from 'mongodb'
import type { Mirror } from '../../src/server/mirror/contract.js'
import { openEmbeddedMirror } from '../../src/server/mirror/embedded.js'
import { openMongoMirror } from '../../src/server/mirror/mongo.js'
import type { CollectionDefinition } from '../../src/server/schemas/collection.js'
import { atEndOfFile } from './leaks.js'
import type { MirrorKind } from './server.js'

/** A mirror's documents, past the mirror: as another program, or a fault, changes them. Nobody else writes meanwhile. */
export interface Raws {
  /** By `_id`; only ids that are text. */
  read(): Promise<Map<string, Document>>
  put(documents: readonly Document[]): Promise<void>
  remove(ids: readonly string[]): Promise<void>
}

/** The documents of a collection in a MongoDB. Any type of `_id` may be put. */
export function mongoRaws(
  mongo: { uri: string; database: string },
  { mirror }: CollectionDefinition,
  prefix = 'duck',
): Raws {
  const on = async <T>(work: (client: MongoClient) => Promise<T>): Promise<T> => {
    const client = new MongoClient(mongo.uri)
    try {
      return await work(client)
    } finally {
      await client.close()
    }
  }
  const of = (client: MongoClient) =>
    client.db(mongo.database).collection<Document>(`${prefix}_${mirror.collection}`)
  return {
    read: () =>
      on(async (client) => {
        const all = new Map<string, Document>()
        for await (const document of of(client).find({}))
          if (typeof document._id === 'string') all.set(document._id, document)
        return all
      }),
    put: (documents) =>
      on(async (client) => {
        const replaced = documents.map((replacement) => {
          return { replaceOne: { filter: { _id: replacement._id }, replacement, upsert: true } }
        })
        if (replaced.length > 0) await of(client).bulkWrite(replaced)
      }),
    remove: (ids) =>
      on(async (client) => {
        await of(client).deleteMany({ _id: { $in: [...ids] } } as Document)
      }),
  }
}

/** The documents of a collection in an embedded mirror that no process has open. */
export function embeddedRaws(directory: string, { mirror }: CollectionDefinition): Raws {
  const prefix = `${mirror.collection}\0`
  const on = async <T>(work: (db: ClassicLevel<string, string>) => Promise<T>): Promise<T> => {
    const db = new ClassicLevel<string, string>(directory)
    try {
      return await work(db)
    } finally {
      await db.close()
    }
  }
  return {
    read: () =>
      on(async (db) => {
        const all = new Map<string, Document>()
        for await (const [key, text] of db.iterator({ gte: prefix, lt: `${mirror.collection}\u0001` }))
          all.set(key.slice(prefix.length), JSON.parse(text) as Document)
        return all
      }),
    put: (documents) =>
      on((db) =>
        db.batch(
          documents.map((document) => {
            return { type: 'put', key: `${prefix}${document._id}`, value: JSON.stringify(document) }
          }),
        ),
      ),
    remove: (ids) => on((db) => db.batch(ids.map((id) => ({ type: 'del', key: `${prefix}${id}` })))),
  }
}

export interface PlantableMirror {
  mirror: Mirror
  /** Works past the mirror, which must not be written meanwhile. */
  plant<T>(definition: CollectionDefinition, work: (raws: Raws) => Promise<T>): Promise<T>
}

let databases = 0

/** A mirror into which a test can put anything. Closed after the file's last test. */
export async function plantableMirror(kind: MirrorKind, mongoUri = ''): Promise<PlantableMirror> {
  if (kind === 'mongodb') {
    const mongo = { uri: mongoUri, database: `dualstore_plant_${process.pid}_${++databases}` }
    const mirror = openMongoMirror({ ...mongo, prefix: 'duck', timeoutMs: 10_000 })
    atEndOfFile(() => mirror.close())
    return { mirror, plant: (definition, work) => work(mongoRaws(mongo, definition)) }
  }
  const directory = await mkdtemp(join(tmpdir(), 'dualstore-test-'))
  let current = openEmbeddedMirror({ directory })
  atEndOfFile(async () => {
    await current.close()
    await rm(directory, { recursive: true, force: true })
  })
  return {
    // LevelDB is open in one place at a time: planting closes the mirror and opens it anew.
    mirror: new Proxy({} as Mirror, { get: (_, name) => Reflect.get(current, name) }),
    async plant(definition, work) {
      await current.close()
      try {
        return await work(embeddedRaws(directory, definition))
      } finally {
        current = openEmbeddedMirror({ directory })
      }
    },
  }
}

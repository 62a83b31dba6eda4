import { type Collection, type Db, type Document, MongoClient } from 'mongodb'
import type { MigrationService } from '../server/services/migrations.js'
import type { SourceDocument, Understood } from './sources/contract.js'
import { serversOf } from './sources/mongo.js'
import { FOREIGN } from './sources/mongo-follow.js'
import { readBatches } from './sources/mongo-read.js'
import { mongoSourceError } from './sources/unavailable.js'
import { understand } from './understand.js'

/** A place in MongoDB under the legacy names. */
export interface MongoPlace {
  uri: string
  database: string
  /** In front of every collection name, joined by an underscore. */
  agentName: string
}

export interface AdoptionOptions extends MongoPlace {
  migrations: MigrationService
  /** Those of the migration. */
  collections: readonly string[]
  signal: AbortSignal
}

/** What is waited for between looking at documents and deleting them. */
export interface AdoptionWaits {
  /** Everything was taken in that is written to the source by now. */
  taken(): Promise<void>
  /** The mirror holds everything that PostgreSQL holds by now. */
  drained(): Promise<void>
}

export interface Adopted {
  /** Legacy documents that are in the archive now and no longer in their place. */
  adopted: number
  /** Those that stay: in quarantine, or not in the mirror. */
  left: number
}

/** Replacing the legacy documents in the database that is both the source and the mirror. */
export type Adoption = ReturnType<typeof openAdoption>

const SIZE = 500
/** An effect must be durable before the next step relies on it. */
const DURABLE = { w: 'majority', journal: true } as const
const CONNECT_TIMEOUT_MS = 10_000

/** Where the mirror is; undefined when it is no MongoDB. */
export function mirrorPlace(settings: {
  mongodbUri: string | undefined
  mongodbDatabase: string
  agentName: string
}): MongoPlace | undefined {
  const { mongodbUri: uri, mongodbDatabase: database, agentName } = settings
  return uri === undefined ? undefined : { uri, database, agentName }
}

/** True when two places name the same collections. Of a cluster it is enough to name one server in both. */
export function isSamePlace(one: MongoPlace, other: MongoPlace): boolean {
  const servers = new Set(serversOf(one.uri))
  return (
    one.database === other.database &&
    one.agentName === other.agentName &&
    serversOf(other.uri).some((server) => servers.has(server))
  )
}

/**
 * Each step can be killed at any point and done again. A legacy document is copied into the archive, by the server and
 * so exactly, before it is deleted, and deleted when the mirror holds what became of it: readers see the old document
 * or the new one, or for a moment both.
 * @returns what is to be closed.
 */
export function openAdoption({ uri, database, agentName, migrations, collections, signal }: AdoptionOptions) {
  const client = new MongoClient(uri, {
    appName: 'dualstore-migrate',
    serverSelectionTimeoutMS: CONNECT_TIMEOUT_MS,
    readPreference: 'primary',
    writeConcern: DURABLE,
  })
  const name = `mongodb://${serversOf(uri).join(',')}/${database}`

  async function request<T>(work: (db: Db) => Promise<T>): Promise<T> {
    try {
      await client.connect()
      return await work(client.db(database))
    } catch (error) {
      throw signal.aborted ? signal.reason : mongoSourceError(name, error)
    }
  }
  const placesOf = (db: Db, collection: string) => {
    const place = `${agentName}_${collection}`
    return { documents: db.collection(place), archive: db.collection(`${place}_before_dualstore`) }
  }
  /** Every document that a filter finds, with what each means, in batches. */
  async function* meanings(collection: string, among: Collection, filter: Document) {
    const definition = await migrations.definition(collection)
    for await (const batch of readBatches(among, { filter, size: SIZE, signal })) {
      const found = [...batch.documents]
      yield { found, understood: found.map((document) => understand(definition, document)) }
    }
    signal.throwIfAborted()
  }

  return {
    /**
     * Copies the legacy documents into the archive that a mirror would write over, because their `_id` is text as an
     * id is. To be done before the mirror goes on.
     */
    keepReplaceable: () =>
      request(async (db) => {
        for (const collection of collections) {
          const { documents, archive } = placesOf(db, collection)
          const filter = { _id: { $type: 'string' }, ...FOREIGN }
          for await (const { documents: found } of readBatches(documents, { filter, size: SIZE, signal })) {
            await copy(documents, archive, Array.from(found, idOf), 'keepExisting')
          }
          signal.throwIfAborted()
        }
      }),

    /** Replaces legacy documents by those that the mirror holds of their ids. */
    adopt: (waits: AdoptionWaits): Promise<Adopted> =>
      request(async (db) => {
        const sum: Adopted = { adopted: 0, left: 0 }
        for (const collection of collections) {
          const { documents, archive } = placesOf(db, collection)
          for await (const { found, understood } of meanings(collection, documents, FOREIGN)) {
            const replaced = await replacedIn({ migrations, documents, collection, understood }, waits)
            const originals = found.filter(({ sourceId }) => replaced.has(sourceId)).map(idOf)
            await copy(documents, archive, originals, 'keepExisting')
            const { deletedCount } = await documents.deleteMany({
              _id: { $in: originals },
              ...FOREIGN,
            } as Document)
            sum.adopted += deletedCount
            sum.left += found.length - replaced.size
          }
        }
        return sum
      }),

    /**
     * Puts the originals back whose document in the mirror is as it was adopted, at this place of the log or before
     * it, in the place of that one. What dualstore has changed or deleted since stays so, with the original in the
     * archive. The mirror must be at rest.
     * @returns the number of originals that were put back.
     */
    restore: (position: string): Promise<number> =>
      request(async (db) => {
        const seq = Number(position.slice(position.indexOf('-') + 1))
        const unchanged = { 'dualstore.seq': { $lte: seq } }
        let restored = 0
        for (const collection of collections) {
          const { documents, archive } = placesOf(db, collection)
          for await (const { found, understood } of meanings(collection, archive, {})) {
            const there = await idsAmong(documents, idsOf(understood), unchanged)
            const back = understood.flatMap((one, n) =>
              one.kind === 'item' && there.has(one.item.id) ? [idOf(found[n])] : [],
            )
            // One whose `_id` is its id stands where the mirror's is.
            await copy(archive, documents, back, 'replace')
            restored += back.length
          }
          // An id may have several originals: the mirror's document tells of all of them, and goes last.
          for await (const { understood } of meanings(collection, archive, {})) {
            await documents.deleteMany({ _id: { $in: idsOf(understood) }, ...unchanged } as Document)
          }
        }
        return restored
      }),

    /** Removes the archive for good. @returns how many documents were in it. */
    dropArchive: (): Promise<number> =>
      request(async (db) => {
        let dropped = 0
        for (const collection of collections) {
          const { archive } = placesOf(db, collection)
          dropped += await archive.countDocuments()
          await archive.drop()
        }
        return dropped
      }),

    close: () => client.close(),
  }
}

interface Looked {
  migrations: MigrationService
  documents: Collection
  collection: string
  understood: readonly Understood[]
}

/** Names of those documents that the mirror has something for, or that dualstore has deleted since. */
async function replacedIn(looked: Looked, { taken, drained }: AdoptionWaits): Promise<Set<string>> {
  const { migrations, documents, collection, understood } = looked
  let verdicts = await verdictsOf(looked)
  const isThere = (verdict: string | undefined) => verdict === 'unchanged' || verdict === 'merged'
  if (![...verdicts.values()].every(isThere)) {
    // Not taken in yet, or deleted in dualstore: after this it can only be the latter.
    await taken()
    verdicts = await verdictsOf(looked)
  }
  await drained()
  const refused = await migrations.quarantinedAmong(
    collection,
    understood.map(({ sourceId }) => sourceId),
  )
  const items = understood.flatMap((one) => (one.kind === 'item' ? [one] : []))
  const mirrored = await idsAmong(documents, idsOf(items), { 'dualstore.seq': { $exists: true } })
  return new Set(
    items
      .filter(({ sourceId, item }) => {
        const verdict = verdicts.get(sourceId)
        if (refused.has(sourceId)) return false
        return verdict === 'created' ? !mirrored.has(item.id) : isThere(verdict) && mirrored.has(item.id)
      })
      .map(({ sourceId }) => sourceId),
  )
}

/** What PostgreSQL would make of the documents, by their names; those in quarantine are not among them. */
async function verdictsOf({ migrations, collection, understood }: Looked): Promise<Map<string, string>> {
  const intake = migrations.prepare({ collection, documents: understood, checkpoint: '' })
  const verdicts = await migrations.forecast(intake)
  const items = understood.filter(({ kind }) => kind === 'item')
  return new Map(verdicts.map((verdict, n) => [items[n]?.sourceId ?? '', verdict]))
}

async function idsAmong(
  documents: Collection,
  ids: readonly string[],
  filter: Document,
): Promise<Set<string>> {
  const found = documents.find({ _id: { $in: ids }, ...filter } as Document, { projection: { _id: 1 } })
  return new Set((await found.toArray()).map(({ _id }) => String(_id)))
}

/** Copies documents within the server, exactly as they are. */
async function copy(
  from: Collection,
  to: Collection,
  ids: readonly unknown[],
  whenMatched: 'keepExisting' | 'replace',
): Promise<void> {
  if (ids.length === 0) return
  const into = { into: to.collectionName, on: '_id', whenMatched, whenNotMatched: 'insert' }
  await from
    .aggregate([{ $match: { _id: { $in: ids } } }, { $merge: into }], { writeConcern: DURABLE })
    .toArray()
}

function idsOf(understood: readonly Understood[]): string[] {
  return understood.flatMap((one) => (one.kind === 'item' ? [one.item.id] : []))
}

function idOf(document: SourceDocument | undefined): unknown {
  return document?.document._id
}

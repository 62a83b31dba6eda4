import { BSON, type Collection, type Document, MongoClient } from 'mongodb'
import { expect, test } from 'vitest'
import { isSamePlace, openAdoption } from '../../src/migrate/adopt.js'
import { openMongoSource } from '../../src/migrate/sources/mongo.js'
import { formatPosition } from '../../src/server/changes/position.js'
import { readHead } from '../../src/server/changes/read.js'
import { openMongoMirror } from '../../src/server/mirror/mongo.js'
import { caughtUp, deleteMessages, testFollower, updateMessages } from '../support/follower.js'
import { atEndOfFile } from '../support/leaks.js'
import { legacyDatabase, writeLegacyDatabase } from '../support/legacy-database.js'
import { items, migrateFrom, withMigrations } from '../support/migration.js'
import { mongoIsAvailable, testMongo } from '../support/mongo.js'

const legacy = legacyDatabase({ seed: 21, documents: 300 })
const [collection] = legacy.collections as [string]

test('a place is told by its servers, its database and its prefix', () => {
  const place = { uri: 'mongodb://me:secret@Localhost:27017/admin', database: 'database', agentName: 'duck' }
  expect(isSamePlace(place, { ...place, uri: 'mongodb://127.0.0.1/' })).toBe(true)
  expect(isSamePlace(place, { ...place, uri: 'mongodb://other,localhost:27017/?replicaSet=a' })).toBe(true)
  expect(isSamePlace(place, { ...place, uri: 'mongodb://127.0.0.1:27018' })).toBe(false)
  expect(isSamePlace(place, { ...place, database: 'other' })).toBe(false)
  expect(isSamePlace(place, { ...place, agentName: 'goose' })).toBe(false)
})

test.runIf(await mongoIsAvailable())(
  'what is replaced is in the archive, broken off or not, and comes back unless dualstore changed it',
  { timeout: 60_000 },
  async () => {
    const mongo = await testMongo()
    const client = new MongoClient(mongo.uri)
    atEndOfFile(async () => {
      await client.close()
      await mongo.close()
    })
    const { uri, database } = mongo
    await writeLegacyDatabase(legacy, { uri, database })
    const place: Place = client.db(database).collection(`duck_${collection}`)
    await place.deleteMany({ dualstore: { $exists: true } })
    // Where the mirror writes over it, because its own name is its id.
    const metadata = { session_id: 'ses_a', role: 'user', updated_at: '2026-01-01T00:00:00.000Z' }
    const named = { id: 'plain', text: 'named by its id', timestamp: '2026-01-01T00:00:00.000Z', metadata }
    await place.insertOne({ _id: 'plain', ...named, extra: new BSON.Long(1) })
    const originals = await lines(place)

    await withMigrations(async (migrations, pool) => {
      const source = openMongoSource({ uri, database, agentName: 'duck' })
      await migrateFrom(source, migrations, { collections: [collection], adopt: true })
      await source.close()
      // Ids as the legacy server made them, and not those that were made up for documents without one.
      const made = [...(await items(pool, collection)).keys()].filter((id) => id.startsWith('msg_17'))
      const [gone, changed, deleted] = made as [string, string, string]
      // Deleted before its documents are adopted: they must not stand there for ever.
      await deleteMessages(pool, [gone])

      const open = (signal: AbortSignal) =>
        openAdoption({ uri, database, agentName: 'duck', migrations, collections: [collection], signal })
      const adoption = open(new AbortController().signal)
      const mirror = openMongoMirror({ uri, database, prefix: 'duck', timeoutMs: 5000 })
      await adoption.keepReplaceable()
      const { follower } = await testFollower(pool, mirror)
      follower.run()
      await caughtUp(pool)

      const waits = { taken: async () => {}, drained: () => caughtUp(pool) }
      const broken = new AbortController()
      const first = open(broken.signal)
      const breakOff = async () => broken.abort(new Error('broken off'))
      await expect(first.adopt({ ...waits, drained: breakOff })).rejects.toThrow('broken off')
      await first.close()
      const again = await adoption.adopt(waits)
      const archive: Place = client.db(database).collection(`duck_${collection}_before_dualstore`)
      const { quarantined } = legacy.expected(collection)
      expect(again.left).toBe(quarantined)
      const foreign = await lines(place, { dualstore: { $exists: false } })
      expect(foreign.length).toBe(quarantined)
      expect([...new Set([...foreign, ...(await lines(archive))])].sort()).toEqual(originals)
      expect(await adoption.adopt(waits)).toEqual({ adopted: 0, left: quarantined })
      const mirrored = await place.find({ dualstore: { $exists: true } }).toArray()
      expect(new Set(mirrored.map(({ id }) => id))).toEqual(new Set((await items(pool, collection)).keys()))

      const { epoch, position } = await readHead(pool)
      await updateMessages(pool, [changed], 'changed since')
      await deleteMessages(pool, [deleted])
      await caughtUp(pool)
      await follower.stop()
      await adoption.restore(formatPosition({ epoch, seq: position }))
      const back = await lines(place)
      const ours = await place.find({ dualstore: { $exists: true } }).toArray()
      expect(ours).toMatchObject([{ _id: changed, text: 'changed since' }])
      const expected = originals.length - (await archivedOf(archive, [gone, changed, deleted]))
      expect(back.filter((line) => originals.includes(line)).length).toBe(expected)
      expect(back.length).toBe(expected + 1)
      // Killed behind it, it is done again and changes nothing.
      expect(await adoption.restore(formatPosition({ epoch, seq: position }))).toBe(0)
      expect(await lines(place)).toEqual(back)
      expect(await adoption.dropArchive()).toBeGreaterThan(0)
      expect(await archive.countDocuments()).toBe(0)
      await adoption.close()
      await mirror.close()
    })
  },
)

// biome-ignore lint/suspicious/noExplicitAny: names of the legacy documents are of every type
type Place = Collection<any>

/** Documents, each exactly, in an order of their own. */
async function lines(place: Place, filter: Document = {}): Promise<string[]> {
  const found = await place.find(filter, { promoteValues: false, bsonRegExp: true }).toArray()
  return found.map((document) => BSON.EJSON.stringify(document, { relaxed: false })).sort()
}

async function archivedOf(archive: Place, ids: string[]): Promise<number> {
  return archive.countDocuments({ id: { $in: ids } })
}

// The mirror's follower on a log of its own, its mirror in a MongoDB or in nothing, and the bare bulkWrite beside it.
import { MongoClient } from 'mongodb'
import { createHints } from '../../../src/server/changes/hints.js'
import { type Change, readChanges, readHead } from '../../../src/server/changes/read.js'
import { createMirrorFollower, MIRROR_FOLLOWER } from '../../../src/server/followers/mirror.js'
import { createProgress } from '../../../src/server/followers/progress.js'
import type { LegacyDocument, Mirror } from '../../../src/server/mirror/contract.js'
import { toLegacy } from '../../../src/server/mirror/legacy-shape.js'
import { openMongoMirror } from '../../../src/server/mirror/mongo.js'
import type { CollectionDefinition } from '../../../src/server/schemas/collection.js'
import type { Item } from '../../../src/server/schemas/item.js'
import { shippedCollections } from '../../../src/server/schemas/shipped-collections.js'
import { writeDocuments } from '../../../src/server/store/documents.js'
import { offer, processArgument } from '../channel.js'
import { seededItem } from '../documents.js'
import { readyPool } from '../ready-pool.js'
import { percentile } from '../rounds.js'

const { databaseUrl, mongodbUri } = processArgument<{ databaseUrl: string; mongodbUri?: string }>()
const TIMEOUT_MS = 10_000
const DATABASE = 'dualstore_bench'
const BULK = 500
const definition = shippedCollections[0] as CollectionDefinition
const pool = await readyPool(databaseUrl)
const hints = createHints(pool)
const client = mongodbUri === undefined ? undefined : new MongoClient(mongodbUri)
let written = 0
let runs = 0

/** Appends documents to the log, in statements of `BULK` rows at most. */
async function append(count: number): Promise<string[]> {
  const ids: string[] = []
  while (ids.length < count) {
    const some = Array.from({ length: Math.min(BULK, count - ids.length) }, () => {
      const item = seededItem(written++)
      ids.push(item.id)
      const time = Date.parse(item.created_at)
      return {
        mode: 'create' as const,
        collection: definition.name,
        id: item.id,
        text: JSON.stringify(item),
        ifVersion: null,
        createdAt: time,
        updatedAt: time,
        idempotency: null,
      }
    })
    await writeDocuments(pool, some)
  }
  return ids
}

/** Follows the log from `count` changes before its end and returns the seconds until it has got there. */
async function follow(mirror: Mirror, count: number): Promise<number> {
  const { position } = await readHead(pool)
  await stand(position - count)
  const progress = createProgress()
  const follower = createMirrorFollower(followerOptions(mirror, progress))
  const started = performance.now()
  follower.run()
  if (!(await progress.reached(position, 120_000))) throw new Error(`no end: ${progress.lastError}`)
  const seconds = (performance.now() - started) / 1000
  await follower.stop()
  return seconds
}

const followerOptions = (mirror: Mirror, progress: ReturnType<typeof createProgress>) => ({
  instance: `bench-${process.pid}`,
  pool,
  hints,
  log: { debug() {}, info() {}, warn: console.error, error: console.error },
  progress,
  mirror,
  definition: async () => definition,
  timeoutMs: TIMEOUT_MS,
  pollMs: 500,
})

async function stand(position: number): Promise<void> {
  await pool.query('DELETE FROM dualstore.followers')
  await pool.query('INSERT INTO dualstore.followers (id, position) VALUES ($1, $2)', [
    MIRROR_FOLLOWER,
    position,
  ])
}

/** A mirror in collections of its own, prepared, so that both sides of a comparison find the same indexes. */
async function freshMirror(): Promise<{ mirror: Mirror; prefix: string }> {
  const prefix = `run${runs++}`
  const mirror = openMongoMirror({
    uri: mongodbUri ?? '',
    database: DATABASE,
    prefix,
    timeoutMs: TIMEOUT_MS,
  })
  await mirror.prepare(definition)
  return { mirror, prefix }
}

const nothing: Mirror = {
  kind: 'embedded',
  prepare: async () => {},
  apply: async () => [],
  get: async () => undefined,
  scan: async function* () {},
  marks: async function* () {},
  marksAhead: async () => [],
  recent: async () => [],
  count: async () => 0,
  drop: async () => {},
  raw: async function* () {},
  rawMany: async () => new Map(),
  forgetPosition: async () => {},
  foreign: async function* () {},
  removeForeign: async () => 0,
  ping: async () => {},
  examine: async () => ({ clock: Date.now(), missingIndexes: [] }),
  close: async () => {},
}

offer({
  calls: {
    append: async (count: number) => (await append(count)).length,

    /** Changes per second into nothing. */
    idle: async (count: number) => count / (await follow(nothing, count)),

    /** Changes per second into MongoDB, from the log to `w: majority, j: true`. */
    catchUp: async (count: number) => {
      const { mirror } = await freshMirror()
      const seconds = await follow(mirror, count)
      await mirror.close()
      return count / seconds
    },

    /** Documents per second of bulkWrite alone: the same documents, ready made, as upserts by _id. */
    bulkWrite: async (count: number) => {
      const { mirror, prefix } = await freshMirror()
      await mirror.close()
      const { position } = await readHead(pool)
      const documents = (await readChanges(pool, position - count, count)).changes.map(
        ({ text, seq, version }: Change) =>
          toLegacy(definition, { item: JSON.parse(text) as Item, seq, version }),
      )
      const collection = client
        ?.db(DATABASE)
        .collection<LegacyDocument>(`${prefix}_${definition.mirror.collection}`, {
          writeConcern: { w: 'majority', journal: true },
        })
      const started = performance.now()
      for (let from = 0; from < documents.length; from += BULK) {
        await collection?.bulkWrite(
          documents.slice(from, from + BULK).map((document) => ({
            replaceOne: { filter: { _id: document._id }, replacement: document, upsert: true },
          })),
          { ordered: false },
        )
      }
      return (count * 1000) / (performance.now() - started)
    },

    /** Times in ms from the acknowledgement of a write to that of the mirror, while `rate` documents/s are written. */
    lag: async ({ rate, seconds }: { rate: number; seconds: number }) => {
      const { mirror } = await freshMirror()
      const acknowledged = new Map<string, number>()
      const lags: number[] = []
      const timed: Mirror = {
        ...mirror,
        apply: async (changes) => {
          const rejections = await mirror.apply(changes)
          const now = performance.now()
          // A document can be mirrored before its writer has heard of it: that is no lag at all.
          for (const { id } of changes) lags.push(Math.max(0, now - (acknowledged.get(id) ?? now)))
          return rejections
        },
      }
      await stand((await readHead(pool)).position)
      const progress = createProgress()
      const follower = createMirrorFollower(followerOptions(timed, progress))
      follower.run()
      const started = performance.now()
      let sent = 0
      for (let elapsed = 0; elapsed < seconds; elapsed = (performance.now() - started) / 1000) {
        const due = Math.floor(elapsed * rate) - sent
        if (due > 0) {
          const ids = await append(due)
          const now = performance.now()
          for (const id of ids) acknowledged.set(id, now)
          hints.tell('dualstore_changes')
          sent += due
        }
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
      if (!(await progress.reached((await readHead(pool)).position, 60_000)))
        throw new Error('the mirror fell behind')
      await follower.stop()
      await mirror.close()
      return { rate: sent / seconds, p50: percentile(lags, 0.5), p99: percentile(lags, 0.99) }
    },

    version: async () => (await client?.db('admin').command({ buildInfo: 1 }))?.version,
  },
  close: async () => {
    hints.stop()
    await client?.close()
    await pool.end()
  },
})

import { once } from 'node:events'
import { createServer } from 'node:net'
import { MongoClient, ObjectId } from 'mongodb'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Mirror, MirrorChange } from '../../../src/server/mirror/contract.js'
import { openMongoMirror } from '../../../src/server/mirror/mongo.js'
import type { CollectionDefinition } from '../../../src/server/schemas/collection.js'
import type { Item, Json } from '../../../src/server/schemas/item.js'
import { shippedCollections } from '../../../src/server/schemas/shipped-collections.js'
import { freeze } from '../../support/freeze.js'
import { customCollection } from '../../support/items.js'
import {
  type MongoServer,
  mongoIsAvailable,
  serverIsAvailable,
  startMongo,
  type TestMongo,
  testMongo,
} from '../../support/mongo.js'

const [messages, tasks] = shippedCollections as [CollectionDefinition, CollectionDefinition]
/** A document as any program may have stored it. */
interface Raw {
  _id: ObjectId | string | number
  [field: string]: unknown
}

const unavailable = { code: 'MIRROR_UNAVAILABLE', retryable: true }

function put(
  id: string,
  seq: number,
  fields: { [field: string]: Json } = {},
  definition = messages,
): MirrorChange {
  const times = { created_at: '2026-01-01T00:00:00.000Z', updated_at: '2026-01-01T00:00:00.000Z' }
  const item: Item = { session_id: 's', role: 'user', content: `at ${seq}`, ...fields, id, ...times }
  return { definition, id, seq, version: 1, item }
}
const del = (id: string, seq: number): MirrorChange => ({
  definition: messages,
  id,
  seq,
  version: 1,
  item: null,
})

async function idsIn(mirror: Mirror): Promise<string[]> {
  const ids: string[] = []
  for await (const { item } of mirror.scan(messages)) ids.push(item.id)
  return ids
}

describe.runIf(await mongoIsAvailable())('the MongoDB mirror beside other programs', () => {
  let mongo: TestMongo
  let client: MongoClient
  let warnings: object[]
  let mirror: Mirror
  const raw = (name = 'duck_session_messages') => client.db(mongo.database).collection<Raw>(name)

  beforeAll(async () => {
    mongo = await testMongo()
    client = new MongoClient(mongo.uri)
  })
  afterAll(async () => {
    await client.close()
    await mongo.close()
  })
  beforeEach(() => {
    warnings = []
    const log = { warn: (details: object) => warnings.push(details) }
    mirror = openMongoMirror({ ...mongo, prefix: 'duck', timeoutMs: 20_000, log })
  })
  afterEach(async () => {
    await mirror.close()
    await client.db(mongo.database).dropDatabase()
  })

  it('writes under the legacy names what legacy readers find', async () => {
    await mirror.apply([put('msg_1', 1), { ...put('task_1', 2, { agent_id: 'a' }, tasks) }])
    expect(await raw().findOne({ id: 'msg_1', 'metadata.session_id': 's' })).toMatchObject({ text: 'at 1' })
    expect(await raw('duck_agent_tasks').findOne({ 'metadata.sessionId': 's' })).toMatchObject({
      metadata: { agentId: 'a', vectorWriteSuccess: false, vectorWriteTimestamp: null },
    })
  })

  it('creates the indexes that legacy readers need, and takes an equal one under another name for it', async () => {
    await raw().createIndex({ 'metadata.session_id': 1, timestamp: 1 }, { name: 'theirs' })
    await mirror.prepare(messages)
    await mirror.prepare(tasks)
    await mirror.prepare(customCollection)
    const keys = async (name?: string) =>
      Object.fromEntries((await raw(name).listIndexes().toArray()).map(({ key, name }) => [name, key]))
    expect(await keys()).toEqual({
      _id_: { _id: 1 },
      theirs: { 'metadata.session_id': 1, timestamp: 1 },
      dualstore_id: { id: 1 },
      dualstore_timestamp: { timestamp: -1 },
      dualstore_metadata_updated_at: { 'metadata.updated_at': -1 },
    })
    expect(await keys('duck_agent_tasks')).toMatchObject({
      dualstore_metadata_sessionId_timestamp: { 'metadata.sessionId': 1, timestamp: 1 },
    })
    // Two fields that may both hold arrays get no common index, because MongoDB would refuse their documents.
    expect(Object.keys(await keys('duck_notes')).sort()).toEqual([
      '_id_',
      'dualstore_id',
      'dualstore_metadata_author_timestamp',
      'dualstore_metadata_updated_at',
      'dualstore_timestamp',
    ])
    expect(warnings).toEqual([])
  })

  it('is prepared by several instances at once', async () => {
    await Promise.all([mirror, mirror, mirror, mirror].map((one) => one.prepare(messages)))
    expect(await raw().listIndexes().toArray()).toHaveLength(5)
  })

  it('goes on without an index that the server refuses, and says so', async () => {
    await raw().createIndex({ somethingElse: 1 }, { name: 'dualstore_id' })
    await mirror.prepare(messages)
    expect(warnings).toMatchObject([{ collection: 'session_messages' }])
    expect(await mirror.apply([put('a', 1)])).toEqual([])
  })

  it('leaves documents of other programs alone when it scans, counts and drops', async () => {
    const theirs = [
      { _id: new ObjectId(), id: 'msg_1', text: 'theirs', timestamp: new Date(), metadata: {} },
      { _id: 'a string', id: 'msg_2', text: 'theirs' },
      { _id: 7, id: 'msg_3', dualstore: 'not ours' },
    ]
    await raw().insertMany(theirs)
    await mirror.apply([put('msg_1', 1), put('msg_9', 2)])
    expect(await idsIn(mirror)).toEqual(['msg_1', 'msg_9'])
    expect(await mirror.count(messages)).toBe(2)
    expect((await mirror.recent(messages, 10)).map(({ _id }) => _id).sort()).toEqual(['msg_1', 'msg_9'])
    expect(await mirror.get(messages, 'a string')).toBeUndefined()
    await mirror.drop(messages)
    expect(await raw().find().sort({ id: 1 }).toArray()).toEqual(theirs)
  })

  it('takes back an id of its own that another program replaced', async () => {
    await mirror.apply([put('a', 5), put('b', 6)])
    await raw().replaceOne({ _id: 'a' }, { id: 'a', text: 'replaced' })
    await raw().replaceOne({ _id: 'b' }, { id: 'b', text: 'replaced' })
    expect(await mirror.get(messages, 'a')).toBeUndefined()
    expect(await mirror.apply([put('a', 7), del('b', 8)])).toEqual([])
    expect(await mirror.get(messages, 'a')).toMatchObject({ seq: 7, item: { content: 'at 7' } })
    expect(await raw().countDocuments()).toBe(1)
  })

  it("rejects what a unique index of somebody else refuses, in the server's words, and takes the rest", async () => {
    await raw().createIndex({ text: 1 }, { unique: true, name: 'their_unique_text' })
    const twin = put('b', 3, { content: 'same' })
    await mirror.apply([put('old', 1)])
    const rejections = await mirror.apply([
      put('a', 2, { content: 'same' }),
      twin,
      put('c', 4),
      del('old', 5),
    ])
    expect(rejections).toEqual([{ change: twin, reason: expect.stringContaining('their_unique_text') }])
    expect(await idsIn(mirror)).toEqual(['a', 'c'])
    await raw().dropIndex('their_unique_text')
    expect(await mirror.apply([twin])).toEqual([])
  })

  it('rejects a document over the size limit of BSON alone, among many that fit', async () => {
    const changes = Array.from({ length: 40 }, (_, n) => put(`m${n}`, n + 1))
    const big = put('big', 100, { content: 'x'.repeat(16 * 1024 * 1024) })
    const huge = put('huge', 101, { content: 'x'.repeat(40 * 1024 * 1024) })
    const rejections = await mirror.apply([...changes.slice(0, 13), big, ...changes.slice(13), huge])
    expect(rejections.map(({ change }) => change)).toEqual([big, huge])
    for (const { reason } of rejections) expect(reason).toContain('16777216')
    expect(await mirror.count(messages)).toBe(40)
  })

  it('ends at the later position when two instances insert the same documents at once', async () => {
    const other = openMongoMirror({ ...mongo, prefix: 'duck', timeoutMs: 20_000 })
    const batch = (seq: number) => Array.from({ length: 100 }, (_, n) => put(`m${n}`, seq + n))
    const rejections = await Promise.all([
      mirror.apply(batch(1000)),
      other.apply(batch(2000)),
      mirror.apply(batch(1)),
    ])
    await other.close()
    expect(rejections.flat()).toEqual([])
    for await (const { seq } of mirror.scan(messages)) expect(seq).toBeGreaterThanOrEqual(2000)
    expect(await mirror.count(messages)).toBe(100)
  })

  it('reads a document whose fields another program changed', async () => {
    await mirror.apply([put('a', 1)])
    await raw().updateOne({ _id: 'a' }, { $unset: { metadata: 1 }, $set: { text: 'edited' } })
    expect((await mirror.get(messages, 'a'))?.item).toMatchObject({ id: 'a', content: 'edited' })
  })
})

describe('a connection string', () => {
  it('that cannot be read is refused without being repeated', () => {
    const open = () =>
      openMongoMirror({ uri: 'mongodb://user:secret@', database: 'd', prefix: 'p', timeoutMs: 100 })
    expect(open).toThrow(
      expect.objectContaining({ code: 'INVALID_CONFIG', message: expect.not.stringContaining('secret') }),
    )
  })
})

describe.runIf(await serverIsAvailable())('the MongoDB mirror when its server fails', () => {
  const TIMEOUT_MS = 1000
  // Finding a primary, getting a connection and being answered have a limit each; the rest is a slow machine's.
  const LIMIT_MS = 3 * TIMEOUT_MS + 2000
  let server: MongoServer
  let mirror: Mirror
  const open = (uri: string, timeoutMs = TIMEOUT_MS) =>
    openMongoMirror({ uri, database: 'd', prefix: 'duck', timeoutMs })

  beforeAll(async () => {
    server = await startMongo()
  })
  afterAll(() => server.stop())
  beforeEach(() => {
    mirror = open(server.uri)
  })
  afterEach(() => mirror.close())

  async function expectUnavailableInTime(target: Mirror): Promise<void> {
    const requests = {
      apply: () => target.apply([put('late', 1)]),
      get: () => target.get(messages, 'a'),
      scan: () => idsIn(target),
      recent: () => target.recent(messages, 1),
      count: () => target.count(messages),
      prepare: () => target.prepare(messages),
      drop: () => target.drop(messages),
      ping: () => target.ping(),
    }
    await Promise.all(
      Object.entries(requests).map(async ([name, work]) => {
        const started = performance.now()
        await expect(work(), name).rejects.toMatchObject(unavailable)
        expect(performance.now() - started, name).toBeLessThan(LIMIT_MS)
      }),
    )
  }

  it('says MIRROR_UNAVAILABLE in time while nothing listens, and works once the server is there', async () => {
    await server.kill9()
    const early = open(server.uri)
    await expectUnavailableInTime(early)
    await server.restart()
    expect(await early.apply([put('a', 1)])).toEqual([])
    await early.close()
  })

  it('says MIRROR_UNAVAILABLE in time when a server accepts connections and never answers', async () => {
    const silent = createServer((socket) => socket.resume()).listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const { port } = silent.address() as { port: number }
    const stuck = open(`mongodb://127.0.0.1:${port}`)
    await expectUnavailableInTime(stuck)
    await stuck.close()
    silent.close()
  })

  it('says MIRROR_UNAVAILABLE in time when a connected server stops answering, and recovers', async () => {
    await mirror.apply([put('before', 1)])
    await idsIn(mirror)
    await freeze(server.pid)
    try {
      await expectUnavailableInTime(mirror)
    } finally {
      process.kill(server.pid, 'SIGCONT')
    }
    const patient = open(server.uri, 10_000)
    expect(await patient.apply([put('after', 2)])).toEqual([])
    await patient.close()
  })

  it('says MIRROR_UNAVAILABLE in time when a server that still answers heartbeats hangs on a write', async () => {
    const admin = new MongoClient(server.uri)
    const data = { failCommands: ['update'], blockConnection: true, blockTimeMS: LIMIT_MS + 3000 }
    await admin.db('admin').command({ configureFailPoint: 'failCommand', mode: { times: 1 }, data })
    await mirror.ping()
    const started = performance.now()
    await expect(mirror.apply([put('hung', 1)])).rejects.toMatchObject(unavailable)
    expect(performance.now() - started).toBeLessThan(LIMIT_MS)
    await admin.db('admin').command({ configureFailPoint: 'failCommand', mode: 'off' })
    await admin.close()
  })

  it('keeps every acknowledged write when the server is killed in the middle of them', async () => {
    const seen = new Set<string>()
    const writer = open(server.uri, 10_000)
    let n = 0
    const enough = 30
    let reached = () => {}
    const killTime = new Promise<void>((resolve) => {
      reached = resolve
    })
    const write = async () => {
      for (;;) {
        const batch = Array.from({ length: 20 }, () => put(`k${String(n++).padStart(6, '0')}`, n))
        await writer.apply(batch)
        for (const { id } of batch) seen.add(id)
        if (seen.size >= enough * 20) reached()
      }
    }
    const writing = expect(write()).rejects.toMatchObject(unavailable)
    await killTime
    await server.kill9()
    await writing
    await writer.close()
    await server.restart()
    const stored = new Set(await idsIn(mirror))
    expect([...seen].filter((id) => !stored.has(id))).toEqual([])
  })

  it.each([
    ['a primary that steps down', { errorCode: 10107 }],
    ['a shutdown', { errorCode: 91 }],
    ['a missing right', { errorCode: 13 }],
    ['a closed connection', { closeConnection: true }],
    ['a durability that was not confirmed', { writeConcernError: { code: 64, errmsg: 'waiting timed out' } }],
  ])('says MIRROR_UNAVAILABLE, and not that a document is bad, after %s', async (_, failure) => {
    const admin = new MongoClient(server.uri)
    const data = { failCommands: ['update'], ...failure }
    await admin.db('admin').command({ configureFailPoint: 'failCommand', mode: { times: 1 }, data })
    const patient = open(server.uri, 10_000)
    await expect(patient.apply([put('f', 50)])).rejects.toMatchObject({
      ...unavailable,
      cause: expect.any(Error),
    })
    expect(await patient.apply([put('f', 50)])).toEqual([])
    expect(await patient.get(messages, 'f')).toMatchObject({ seq: 50 })
    await patient.close()
    await admin.close()
  })

  it('finds the document for whose sake a server refuses a whole command', async () => {
    const admin = new MongoClient(server.uri)
    const data = { failCommands: ['update'], errorCode: 10334 }
    // Refused as a whole, then its first half, then the first document alone.
    await admin.db('admin').command({ configureFailPoint: 'failCommand', mode: { times: 3 }, data })
    const patient = open(server.uri, 10_000)
    const changes = [put('p1', 60), put('p2', 61), put('p3', 62)]
    const rejections = await patient.apply(changes)
    expect(rejections.map(({ change }) => change)).toEqual([changes[0]])
    await patient.close()
    await admin.close()
  })
})

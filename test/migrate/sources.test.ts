import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import { BSON, type Document, MongoClient } from 'mongodb'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { FollowedBatch, Source, SourceDocument } from '../../src/migrate/sources/contract.js'
import { openHttpSource } from '../../src/migrate/sources/http.js'
import { openMongoSource } from '../../src/migrate/sources/mongo.js'
import { decode } from '../../src/migrate/sources/mongo-read.js'
import { understand } from '../../src/migrate/understand.js'
import type { CollectionDefinition } from '../../src/server/schemas/collection.js'
import { shippedCollections } from '../../src/server/schemas/shipped-collections.js'
import { compareIds, legacyDatabase, writeLegacyDatabase } from '../support/legacy-database.js'
import { mongoIsAvailable, type TestMongo, testMongo } from '../support/mongo.js'
import { freePort } from '../support/ports.js'

const { EJSON, ObjectId } = BSON
const [messages, tasks] = shippedCollections as [CollectionDefinition, CollectionDefinition]
const never = new AbortController().signal

async function readAll(source: Source, collection: string, checkpoint: string | null = null) {
  const documents: SourceDocument[] = []
  const checkpoints: string[] = []
  for await (const batch of source.read(collection, checkpoint, never)) {
    documents.push(...batch.documents)
    checkpoints.push(batch.checkpoint)
  }
  return { documents, checkpoints }
}

/** Follows one collection in the background and remembers what comes. */
function following(source: Source, collection: string, checkpoint: string) {
  const abort = new AbortController()
  const batches: FollowedBatch[] = []
  const checkpoints = new Map([[collection, checkpoint]])
  const options = { collections: [collection], checkpoints, pollMs: 50, signal: abort.signal }
  const ended = (async () => {
    for await (const batch of source.follow(options)) batches.push(batch)
  })()
  ended.catch(() => {})
  return {
    batches,
    ids: () => batches.flatMap(({ documents }) => Array.from(documents, ({ document }) => document.id)),
    stop: async () => {
      abort.abort()
      await ended
    },
  }
}

describe.runIf(await mongoIsAvailable())('a MongoDB as source', () => {
  let mongo: TestMongo
  let client: MongoClient
  let opened: Source[]
  const warnings: object[] = []
  const stored = (name: string) => client.db(mongo.database).collection<Document & { _id: unknown }>(name)
  const open = (options: { changeStreams?: boolean } = {}) => {
    const log = { warn: (fields: object) => void warnings.push(fields) }
    const source = openMongoSource({ ...mongo, agentName: 'duck', log, ...options })
    opened.push(source)
    return source
  }

  beforeAll(async () => {
    opened = []
    mongo = await testMongo()
    client = new MongoClient(mongo.uri)
  })
  afterAll(async () => {
    for (const source of opened) await source.close()
    await client.close()
    await mongo.close()
  })

  it('gives every document in the order of mixed ids, and goes on behind each batch', async () => {
    const legacy = legacyDatabase({ seed: 7, documents: 2500, collections: ['session_messages'] })
    await writeLegacyDatabase(legacy, mongo)
    const source = open()
    expect(await source.collections(['session_messages', 'agent_tasks'])).toEqual([
      { collection: 'session_messages', documents: 2500 },
    ])

    const { documents, checkpoints } = await readAll(source, 'session_messages')
    const made = [...legacy.documents('session_messages')].sort((a, b) =>
      compareIds(a.document._id, b.document._id),
    )
    const nameOf = (_id: unknown) => EJSON.stringify(_id, { relaxed: false })
    expect(documents.map(({ sourceId }) => sourceId)).toEqual(
      made.map(({ document }) => nameOf(document._id)),
    )
    // Numbers keep their value; whether a whole one was stored as a double is not told.
    const different = documents.filter(({ document }, place) => {
      const stored = BSON.deserialize(BSON.serialize(made[place]?.document ?? {}), { bsonRegExp: true })
      return !isDeepStrictEqual(document, stored)
    })
    expect(different).toEqual([])

    expect(checkpoints.length).toBeGreaterThan(2)
    for (const checkpoint of checkpoints) {
      const rest = await readAll(source, 'session_messages', checkpoint)
      const place = documents.findIndex(({ sourceId }) => sourceId === checkpoint)
      expect(rest.documents.map(({ sourceId }) => sourceId)).toEqual(
        documents.slice(place + 1).map(({ sourceId }) => sourceId),
      )
    }
  })

  it('goes on behind an id of any type, and decodes arrays under inherited names', async () => {
    const ids = [
      -0.5,
      BSON.Long.fromString('9007199254740993'),
      'a',
      'nul\0',
      { a: 1 },
      new BSON.Binary(Buffer.from('x')),
      new ObjectId(),
      true,
      new Date(5),
    ]
    const field = { constructor: [{ toString: [{ x: 1 }] }] }
    await stored('duck_opencode_events').insertMany(ids.map((_id) => ({ _id, ...field })) as never)
    const source = open()
    const { documents } = await readAll(source, 'opencode_events')
    expect(documents.map(({ sourceId }) => sourceId)).toEqual(
      ids.map((_id) => EJSON.stringify(_id, { relaxed: false })),
    )
    for (const { document } of documents) expect(document.constructor).toEqual(field.constructor)
    for (const [place, { sourceId }] of documents.entries()) {
      const rest = await readAll(source, 'opencode_events', sourceId)
      expect(rest.documents).toEqual(documents.slice(place + 1))
    }
  })

  it.each([
    ['by change stream', true],
    ['by looking again and again', false],
  ])('is followed %s from the mark on, past what dualstore writes itself', async (_, changeStreams) => {
    const name = changeStreams ? 'session_messages' : 'agent_tasks'
    const there = stored(`duck_${name}`)
    const source = open({ changeStreams })
    await there.insertOne({ _id: new ObjectId('000000010000000000000000'), id: 'long before' })
    const mark = await source.mark(name)
    const put = (id: string, more: object = {}) => there.insertOne({ _id: new ObjectId(), id, ...more })
    await put('first')

    const follower = following(source, name, mark)
    await expect.poll(follower.ids).toEqual(['first'])
    await put('ours', { dualstore: { seq: 1, version: 1 } })
    await put('second')
    await expect.poll(follower.ids).toEqual(['first', 'second'])
    await expect.poll(() => follower.batches.at(-1)).toMatchObject({ documents: [], behind: 0 })
    await follower.stop()

    if (changeStreams) {
      await there.updateOne({ id: 'first' } as never, { $set: { text: 'changed' } })
      await there.deleteOne({ id: 'second' } as never)
    }
    await put('third')
    const again = following(source, name, follower.batches.at(-1)?.checkpoint ?? '')
    await expect.poll(again.ids).toContain('third')
    await again.stop()
    if (!changeStreams) return
    expect(again.ids()).toEqual(['first', 'third'])
    expect(again.batches.reduce((sum, { deleted }) => sum + deleted, 0)).toBe(1)
  })

  it('looks at ids that tell no time now and then', async () => {
    const source = open({ changeStreams: false })
    const follower = following(source, 'texts', await source.mark('texts'))
    await expect.poll(() => follower.batches.length).toBeGreaterThan(0)
    await stored('duck_texts').insertOne({ _id: 'by hand', id: 'by hand' })
    await expect.poll(follower.ids).toContain('by hand')
    await follower.stop()
  })

  it.each(['', '{"behind": {"_data": "00ff"}}'])(
    'is read as a whole when it cannot tell what happened since %j',
    async (checkpoint) => {
      await stored('duck_lost').deleteMany({})
      await stored('duck_lost').insertMany([{ _id: 1, id: 'a' } as never, { _id: 2, id: 'b' } as never])
      const follower = following(open(), 'lost', checkpoint)
      await expect.poll(follower.ids).toEqual(['a', 'b'])
      await expect.poll(() => follower.batches.at(-1)).toMatchObject({ documents: [] })
      await stored('duck_lost').insertOne({ _id: 3, id: 'c' } as never)
      await expect.poll(follower.ids).toEqual(['a', 'b', 'c'])
      await follower.stop()
      expect(warnings).toEqual(
        checkpoint === '' ? [] : [expect.objectContaining({ collection: 'duck_lost' })],
      )
    },
  )

  it('that does not answer is told without its password', async () => {
    const uri = `mongodb://somebody:geheim@127.0.0.1:${await freePort()}/`
    const source = openMongoSource({ uri, database: 'database', agentName: 'duck', connectTimeoutMs: 200 })
    const error: Error = await source.collections(['agent_tasks']).then(
      () => expect.fail('must not be readable'),
      (reason) => reason,
    )
    expect(error).toMatchObject({ code: 'SOURCE_UNAVAILABLE', retryable: true })
    expect(`${error.message} ${source.name} ${source.identity}`).not.toMatch(/geheim|somebody/)
    await source.close()
  })
})

it('a connection string that is none is refused without being quoted', () => {
  expect(() => openMongoSource({ uri: 'mongodb://u:geheim@', database: 'd', agentName: 'a' })).toThrow(
    expect.objectContaining({ code: 'INVALID_REQUEST', message: expect.not.stringContaining('geheim') }),
  )
})

describe('a damaged document', () => {
  const whole = BSON.serialize({ _id: 'a', text: 'xyz' })

  it('with text that is not UTF-8 is quarantined with its bytes', () => {
    const bytes = Buffer.from(whole)
    bytes[bytes.indexOf('xyz')] = 0xff
    const decoded = decode(bytes)
    expect(decoded).toMatchObject({ sourceId: '"a"', unreadable: expect.stringContaining('UTF-8') })
    const understood = understand(messages, decoded)
    expect(understood).toMatchObject({ kind: 'quarantined', reason: decoded.unreadable })
    expect(understood).toHaveProperty('document', expect.stringContaining(bytes.toString('base64')))
  })

  it('that is no BSON is quarantined too', () => {
    const decoded = decode(whole.subarray(0, 12))
    expect(understand(messages, decoded)).toMatchObject({ kind: 'quarantined', sourceId: decoded.sourceId })
  })
})

/** Answers like the legacy server: made-up ids, emptied objects, the newest thousand. */
function legacyStandIn(documents: Document[]) {
  let requests = 0
  const answer = (request: IncomingMessage, response: ServerResponse) => {
    const url = new URL(request.url ?? '', 'http://x')
    const send = (status: number, body: object) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    }
    if (request.headers.authorization !== 'Bearer secret') return send(401, { error: 'missing' })
    const newest = [...documents].reverse().slice(0, 1000)
    if (url.pathname !== '/api/v1/agent_tasks') return send(404, { success: false, error: 'no' })
    const limit = Number(url.searchParams.get('limit'))
    const offset = Number(url.searchParams.get('offset'))
    const data = newest.slice(offset, offset + limit).map(({ metadata, timestamp }) => ({
      id: `task_${metadata.sessionId}_${++requests}`,
      session_id: metadata.sessionId,
      agent_id: metadata.agentId,
      task_type: metadata.taskType,
      status: metadata.status,
      input_data: {},
      created_at: timestamp,
      updated_at: metadata.updated_at,
    }))
    const has_more = offset + limit < newest.length
    send(200, { success: true, data, pagination: { total: newest.length, limit, offset, has_more } })
  }
  return createServer(answer)
}

describe('a running legacy server as source', () => {
  const documents = Array.from({ length: 1200 }, (_, index): Document => {
    const timestamp = new Date(1_700_000_000_000 + index).toISOString()
    const metadata = { sessionId: 's', agentId: 'a', taskType: `t${index}`, status: 'pending' }
    return {
      id: `true-${index}`,
      text: `t${index}`,
      timestamp,
      metadata: { ...metadata, inputData: { index }, updated_at: timestamp },
    }
  })
  const server = legacyStandIn(documents)
  let url: string
  const open = (token = 'secret') => openHttpSource({ url, token })
  const items = (found: readonly SourceDocument[]) =>
    found.map((one) => {
      const understood = understand(tasks, one)
      return understood.kind === 'item' ? understood.item : expect.fail(understood.reason)
    })

  beforeAll(async () => {
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterAll(() => {
    server.closeAllConnections()
    server.close()
  })

  it('gives the newest thousand, each under the same id every time', async () => {
    const source = open()
    expect(await source.collections(['session_messages', 'agent_tasks', 'notes'])).toEqual([
      { collection: 'agent_tasks', documents: 1000 },
    ])
    const once = await readAll(source, 'agent_tasks')
    const again = await readAll(open(), 'agent_tasks')
    expect(again.documents).toEqual(once.documents)
    const found = items(once.documents)
    expect(new Set(found.map(({ id }) => id)).size).toBe(1000)
    expect(found[0]).toMatchObject({ id: expect.stringMatching(/^task_[0-9a-f]{32}$/), task_type: 't1199' })
    const rest = await readAll(source, 'agent_tasks', once.checkpoints[0])
    expect(rest.documents).toEqual(once.documents.slice(100))
  })

  it('says with numbers what it does not give', async () => {
    expect(await open().losses()).toEqual([
      expect.stringMatching(/^agent_tasks: 1000 of 1000 listed.*older documents are left behind$/),
      expect.stringMatching(/^agent_tasks: 1000 documents get an id made of their content/),
      expect.stringMatching(/^agent_tasks: 1000 of 1000 documents have nothing in input_data/),
    ])
  })

  it('is followed by looking at its list, and tells each document once', async () => {
    const source = open()
    const follower = following(source, 'agent_tasks', await source.mark('agent_tasks'))
    await expect.poll(() => follower.batches.at(-1)?.documents.length).toBe(0)
    expect(follower.ids()).toHaveLength(1000)
    documents.push({ ...documents[0], timestamp: '2026-01-01T00:00:00.000Z' })
    await expect.poll(() => follower.ids().length).toBe(1001)
    await follower.stop()
    expect(follower.ids()).toHaveLength(1001)
  })

  it.each([
    ['refuses the token', () => open('wrong')],
    ['does not answer', () => openHttpSource({ url: 'http://127.0.0.1:1' })],
  ])('that %s is unavailable', async (_, opening) => {
    await expect(opening().collections(['agent_tasks'])).rejects.toMatchObject({ code: 'SOURCE_UNAVAILABLE' })
  })

  it.each(['no url', 'ftp://host', 'http://user:geheim@host'])('%s is refused as an address', (address) => {
    expect(() => openHttpSource({ url: address })).toThrow(
      expect.objectContaining({ code: 'INVALID_REQUEST', message: expect.not.stringContaining('geheim') }),
    )
  })
})

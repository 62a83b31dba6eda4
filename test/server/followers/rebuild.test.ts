import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { MongoClient } from 'mongodb'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Pool } from '../../../src/server/db/pool.js'
import type { Mirror } from '../../../src/server/mirror/contract.js'
import { ensureShipped } from '../../../src/server/services/collections.js'
import { createMirrorControl } from '../../../src/server/services/mirror-control.js'
import { createOverview } from '../../../src/server/services/overview.js'
import { localAccess } from '../../../src/server/services/principal.js'
import { loseFollower } from '../../../src/server/store/positions.js'
import { createDatabase, type TestDatabase } from '../../support/database.js'
import { serverOfFile } from '../../support/file-mongo.js'
import {
  caughtUp,
  deleteMessages,
  expectEqual,
  insertMessages,
  messages,
  type TestFollower,
  testFollower,
  testMirror,
  until,
  updateMessages,
} from '../../support/follower.js'
import { mirrorKinds } from '../../support/server.js'

const mongo = await serverOfFile()

const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }
let database: TestDatabase
let pool: Pool
let mirror: Mirror
let followers: TestFollower[] = []

beforeEach(async () => {
  database = await createDatabase()
  pool = database.pool
  await ensureShipped(pool)
})
afterEach(async () => {
  for (const { follower } of followers) await follower.stop()
  followers = []
  await database.close()
})

const numbered = (count: number, name = 'm') => Array.from({ length: count }, (_, index) => `${name}${index}`)
const follow = async (instance = 'first', to: Mirror = mirror) => {
  const made = await testFollower(pool, to, { instance })
  followers.push(made)
  made.follower.run()
  return made
}
const control = ({ hints }: TestFollower) => createMirrorControl({ pool, hints, log: quiet })
const status = () => createOverview(pool).mirror('mirror')
const rebuilt = () => until(async () => (await status()).rebuild?.phase === 'done', 60_000)

describe.each(mirrorKinds.filter((kind) => kind === 'embedded' || mongo !== undefined))(
  '%s mirror',
  { timeout: 120_000 },
  (kind) => {
    // The MongoDB for tests is slow on a busy machine.
    const many = kind === 'embedded' ? 1100 : 150
    beforeEach(async () => {
      mirror = await testMirror(kind, mongo?.uri)
    })

    test('what the mirror lacks, has wrong, or has too much is mended, and the status tells the counts', async () => {
      const made = await follow()
      await insertMessages(pool, numbered(many))
      await caughtUp(pool)
      const item = { ...(await mirror.get(messages, 'm1'))!.item, content: 'wrong' }
      const at = { definition: messages, version: 1 }
      // Ahead of the log, as another log would have left them.
      await mirror.apply([
        { ...at, id: 'm1', seq: 900_000, item },
        { ...at, id: 'extra', seq: 900_001, item: { ...item, id: 'extra' } },
        { ...at, id: 'old', seq: 1, item: { ...item, id: 'old' } },
        { ...at, id: 'm2', seq: 900_002, item: null },
      ])
      expect(await mirror.get(messages, 'm2')).toBeUndefined()
      const asked = await control(made).rebuild('mirror', {}, localAccess)
      expect(asked).toMatchObject({ rebuild: { phase: 'write', requested_by: 'local', written: 0 } })
      await rebuilt()
      await expectEqual(pool, mirror)
      expect(await status()).toMatchObject({
        state: 'running',
        lag: { changes: 0, seconds: 0 },
        rebuild: { written: many, removed: 2, retried: 0, refused: 0, finished_at: expect.any(String) },
      })
      // Later changes win over what the rebuild wrote.
      await updateMessages(pool, ['m1'], 'later')
      await caughtUp(pool)
      await expectEqual(pool, mirror)
    })

    test('a reader never misses a document that is there all the while, and concurrent writes win', async () => {
      const made = await follow()
      const kept = numbered(many, 'kept')
      await insertMessages(pool, kept)
      await caughtUp(pool)
      let going = true
      let looks = 0
      const missed: string[] = []
      const reader = (async () => {
        for (; going; looks++) {
          const seen = new Set<string>()
          for await (const { id } of mirror.marks(messages)) seen.add(id)
          missed.push(...kept.filter((id) => !seen.has(id)))
          await delay(20)
        }
      })()
      const writer = (async () => {
        for (let round = 0; going; round++) {
          await insertMessages(pool, numbered(5, `new${round}_`))
          await updateMessages(pool, kept.slice((round * 10) % many, ((round * 10) % many) + 10), `${round}`)
          if (round > 0) await deleteMessages(pool, numbered(5, `new${round - 1}_`))
          await delay(20)
        }
      })()
      try {
        await until(() => looks > 0)
        await control(made).rebuild('mirror', {}, localAccess)
        await rebuilt()
      } finally {
        going = false
        await Promise.all([reader, writer])
      }
      await caughtUp(pool)
      await expectEqual(pool, mirror)
      expect(looks).toBeGreaterThan(1)
      expect(missed).toEqual([])
    })

    test('one that is lost runs again after a rebuild, without what was deleted meanwhile', async () => {
      const made = await follow()
      await insertMessages(pool, numbered(300))
      await caughtUp(pool)
      await loseFollower(pool, 'mirror', 'for the test')
      await until(() => made.progress.halted !== undefined && made.logged.includes('this follower is lost'))
      expect(await status()).toMatchObject({ state: 'lost', reason: 'for the test', leader: null })
      await deleteMessages(pool, numbered(100))
      await updateMessages(pool, numbered(200), 'while it was lost')
      // As retention does: the log no longer has what it lacks.
      await pool.query('DELETE FROM dualstore.changes WHERE seq < (SELECT max(seq) FROM dualstore.changes)')
      await pool.query('UPDATE dualstore.logs SET floor = (SELECT max(seq) - 1 FROM dualstore.changes)')
      await expect(control(made).resume('mirror', localAccess)).rejects.toMatchObject({ code: 'CONFLICT' })
      await expect(control(made).pause('mirror', undefined, localAccess)).rejects.toMatchObject({
        code: 'CONFLICT',
      })
      expect(await mirror.get(messages, 'm1')).toBeDefined()
      await control(made).rebuild('mirror', {}, localAccess)
      await rebuilt()
      await caughtUp(pool)
      await expectEqual(pool, mirror)
      expect(await status()).toMatchObject({ state: 'running', rebuild: { written: 200, removed: 100 } })
    })

    test('another leader goes on where the one before has stored that it was', async () => {
      await insertMessages(pool, numbered(many))
      let pages = 0
      let stuck: () => void = () => {}
      let goOn: () => void = () => {}
      const gate = new Promise<void>((resolve) => {
        goOn = resolve
      })
      const atGate = new Promise<void>((resolve) => {
        stuck = resolve
      })
      const first = await follow('first', {
        ...mirror,
        kind,
        // Stands for a process that stalls in the middle of a page.
        marksAhead: async (definition, range, seq) => {
          if (pages++ === (kind === 'embedded' ? 1 : 0)) {
            stuck()
            await gate
          }
          return mirror.marksAhead(definition, range, seq)
        },
      })
      await caughtUp(pool)
      await control(first).rebuild('mirror', {}, localAccess)
      await atGate
      const { rows } = await pool.query(`SELECT rebuild FROM dualstore.followers WHERE id = 'mirror'`)
      expect(rows[0].rebuild).toMatchObject({ phase: 'write', finished_at: null })
      await pool.query(`UPDATE dualstore.followers SET leader = NULL, lease_until = '-infinity'`)
      await follow('second')
      await rebuilt()
      expect((await status()).leader?.instance).toBe('second')
      await deleteMessages(pool, numbered(many))
      await caughtUp(pool)
      // It wakes, and writes what has been deleted: the present leader deletes it again.
      goOn()
      await until(() => first.logged.some((message) => message.includes('applied again')))
      await caughtUp(pool)
      await until(async () => (await mirror.count(messages)) === 0)
    })

    test('a pause holds a rebuild, and resuming goes on with the same', async () => {
      const made = await follow()
      await insertMessages(pool, numbered(50))
      await caughtUp(pool)
      await control(made).pause('mirror', 'maintenance', localAccess)
      const { rebuild } = await control(made).rebuild('mirror', {}, localAccess)
      await control(made).pause('mirror', 'again', localAccess)
      const paused = await status()
      expect(paused).toMatchObject({ state: 'paused', reason: 'again', rebuild: { id: rebuild?.id } })
      if (paused.rebuild?.phase !== 'done')
        await expect(control(made).rebuild('mirror', {}, localAccess)).rejects.toMatchObject({
          code: 'CONFLICT',
        })
      await control(made).resume('mirror', localAccess)
      await rebuilt()
      expect((await status()).rebuild?.id).toBe(rebuild?.id)
      const again = await control(made).rebuild('mirror', { restart: true }, localAccess)
      expect(again.rebuild?.id).not.toBe(rebuild?.id)
      await rebuilt()
    })
  },
)

describe.runIf(mongo !== undefined)('with MongoDB', () => {
  const raw = async <T>(work: (client: MongoClient) => Promise<T>): Promise<T> => {
    const client = new MongoClient(mongo?.uri ?? '')
    try {
      return await work(client)
    } finally {
      await client.close()
    }
  }
  /** Where this test's mirror writes: the one that holds its marker. */
  const collectionOf = async (client: MongoClient, marker: string) => {
    const { databases } = await client.db().admin().listDatabases()
    for (const { name } of databases) {
      const collection = client.db(name).collection<{ _id: string; text?: string }>('duck_session_messages')
      if ((await collection.countDocuments({ _id: marker })) === 1) return collection
    }
    throw new Error('no database holds the marker')
  }

  test('documents of others stay, indexes come back, parked ones are tried again or forgotten', async () => {
    mirror = await testMirror('mongodb', mongo?.uri)
    const marker = randomUUID()
    const made = await follow()
    await insertMessages(pool, [marker, ...numbered(10)])
    await insertMessages(pool, ['huge', 'gone'], 'x'.repeat(17 * 1024 * 1024))
    await caughtUp(pool)
    await updateMessages(pool, ['huge'], 'small now')
    await deleteMessages(pool, ['gone'])
    await caughtUp(pool)
    expect(await status()).toMatchObject({ parked: 2 })
    await raw(async (client) => {
      const collection = await collectionOf(client, marker)
      await collection.insertOne({ _id: 'foreign', text: 'of another program' })
      await collection.dropIndexes()
    })
    await control(made).rebuild('mirror', {}, localAccess)
    await rebuilt()
    await expectEqual(pool, mirror)
    expect((await mirror.get(messages, 'huge'))?.item.content).toBe('small now')
    expect(await status()).toMatchObject({ parked: 0, rebuild: { retried: 2, removed: 0, refused: 0 } })
    await raw(async (client) => {
      const collection = await collectionOf(client, marker)
      expect(await collection.findOne({ _id: 'foreign' })).toMatchObject({ text: 'of another program' })
      expect((await collection.indexes()).map(({ key }) => key)).toContainEqual({ timestamp: -1 })
    })
    // It follows the ones that were parked, too.
    await updateMessages(pool, ['huge'], 'flows again')
    await caughtUp(pool)
    await expectEqual(pool, mirror)
  })

  test('a mirror that was emptied is filled again', async () => {
    mirror = await testMirror('mongodb', mongo?.uri)
    const marker = randomUUID()
    const made = await follow()
    await insertMessages(pool, [marker, ...numbered(200)])
    await caughtUp(pool)
    await raw(async (client) => void (await (await collectionOf(client, marker)).deleteMany({})))
    expect(await mirror.count(messages)).toBe(0)
    await control(made).rebuild('mirror', {}, localAccess)
    await rebuilt()
    await expectEqual(pool, mirror)
  })
})

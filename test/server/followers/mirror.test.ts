import { MongoClient } from 'mongodb'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Pool } from '../../../src/server/db/pool.js'
import { DualstoreError } from '../../../src/server/errors.js'
import type { Mirror } from '../../../src/server/mirror/contract.js'
import { ensureShipped } from '../../../src/server/services/collections.js'
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

let database: TestDatabase
let pool: Pool
let followers: TestFollower[] = []
const follow = async (mirror: Mirror, options: Parameters<typeof testFollower>[2] = {}) => {
  const made = await testFollower(pool, mirror, options)
  followers.push(made)
  made.follower.run()
  return made
}

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
const unavailable = () => new DualstoreError('MIRROR_UNAVAILABLE', 'out for the test')

/** The real mirror with something in front of its apply. */
function wrapped(mirror: Mirror, apply: Mirror['apply']): Mirror {
  return {
    ...mirror,
    apply,
    get kind() {
      return mirror.kind
    },
  }
}

describe.each(mirrorKinds.filter((kind) => kind === 'embedded' || mongo !== undefined))(
  '%s mirror',
  (kind) => {
    let mirror: Mirror
    beforeEach(async () => {
      mirror = await testMirror(kind, mongo?.uri)
    })

    test('what psql writes, changes and deletes reaches the mirror (I2)', async () => {
      await follow(mirror)
      await insertMessages(pool, numbered(600))
      await updateMessages(pool, numbered(300), 'changed')
      await deleteMessages(pool, numbered(100))
      await insertMessages(pool, numbered(10), 'again')
      await caughtUp(pool)
      await expectEqual(pool, mirror)
      expect(await mirror.count(messages)).toBe(510)
    })

    test('changes whose effect stands but whose position was not stored are applied again without harm (I4)', async () => {
      let failures = 0
      const batches: number[] = []
      await insertMessages(pool, numbered(3), 'first')
      const { progress } = await follow(
        wrapped(mirror, async (changes) => {
          batches.push(changes.length)
          const rejections = await mirror.apply(changes)
          if (failures++ < 2) throw unavailable()
          return rejections
        }),
      )
      await updateMessages(pool, ['m1'], 'second')
      await deleteMessages(pool, ['m2'])
      await caughtUp(pool)
      await expectEqual(pool, mirror)
      expect(failures).toBeGreaterThanOrEqual(3)
      expect(progress.failing).toBe(false)
    })

    test('while the mirror refuses, writes go on, and the log is drained later (I9)', async () => {
      let down = true
      const { progress } = await follow(
        wrapped(mirror, (changes) => (down ? Promise.reject(unavailable()) : mirror.apply(changes))),
      )
      await insertMessages(pool, numbered(50))
      await until(() => progress.failing)
      await updateMessages(pool, numbered(50), 'meanwhile')
      expect(await mirror.count(messages)).toBe(0)
      const stored = async () =>
        (await pool.query(`SELECT last_error FROM dualstore.followers WHERE id = 'mirror'`)).rows[0]
          ?.last_error
      await until(async () => (await stored()) === 'out for the test')
      down = false
      await caughtUp(pool)
      await expectEqual(pool, mirror)
      expect(await stored()).toBeNull()
    })

    test('a clean stop hands over at once, and both write the same mirror in turn (I5)', async () => {
      const first = await follow(mirror, { instance: 'first' })
      await insertMessages(pool, numbered(20))
      await caughtUp(pool)
      const second = await follow(mirror, { instance: 'second' })
      await until(() => second.progress.position === first.progress.position)
      const leader = async () =>
        (await pool.query(`SELECT leader FROM dualstore.followers WHERE id = 'mirror'`)).rows[0]?.leader
      expect(await leader()).toBe('first')
      await first.follower.stop()
      await until(async () => (await leader()) === 'second', 1000)
      await deleteMessages(pool, numbered(10))
      await caughtUp(pool)
      await expectEqual(pool, mirror)
      expect(second.logged).not.toContain('took over from a leader that vanished')
    })

    test('what a leader wrote after another one had taken over is applied over again by that one (I4, I5)', async () => {
      let reached: () => void = () => {}
      let goOn: () => void = () => {}
      const atGate = new Promise<void>((resolve) => {
        reached = resolve
      })
      const gate = new Promise<void>((resolve) => {
        goOn = resolve
      })
      // Stands for the pause of a process between looking at its lease and sending its request.
      const late = await testFollower(
        pool,
        wrapped(mirror, async (changes) => {
          reached()
          await gate
          return mirror.apply(changes)
        }),
        { instance: 'late' },
      )
      followers.push(late)
      await insertMessages(pool, ['kept', 'deleted'])
      late.follower.run()
      await atGate
      await pool.query(`UPDATE dualstore.followers SET leader = NULL, lease_until = '-infinity'`)
      await follow(mirror, { instance: 'next' })
      await deleteMessages(pool, ['deleted'])
      await updateMessages(pool, ['kept'], 'newer')
      await caughtUp(pool)
      await expectEqual(pool, mirror)
      goOn()
      await until(() => late.logged.some((message) => message.includes('applied again')))
      await caughtUp(pool)
      await until(async () => (await mirror.get(messages, 'deleted')) === undefined)
      await expectEqual(pool, mirror)
    })

    test('a leader that cannot reach the mirror lets another instance lead', async () => {
      const cut = await follow(
        wrapped(mirror, () => Promise.reject(unavailable())),
        { instance: 'cut', timeoutMs: 300 },
      )
      await insertMessages(pool, ['a'])
      await until(() => cut.progress.failing)
      await follow(mirror, { instance: 'whole', timeoutMs: 300 })
      await caughtUp(pool)
      await expectEqual(pool, mirror)
      await until(() => !cut.progress.failing)
    })

    test('an instance that stands by sees a failure of the leader, and its end', async () => {
      let down = true
      await follow(
        wrapped(mirror, (changes) => (down ? Promise.reject(unavailable()) : mirror.apply(changes))),
        { instance: 'leads' },
      )
      await insertMessages(pool, ['a'])
      await until(
        async () =>
          (await pool.query(`SELECT FROM dualstore.followers WHERE last_error IS NOT NULL`)).rowCount === 1,
      )
      const { progress } = await follow(mirror, { instance: 'stands by' })
      await until(() => progress.failing)
      down = false
      await until(() => !progress.failing && progress.position === 1)
    })

    test('a document of a collection made a moment ago by another instance is not parked', async () => {
      const { progress } = await follow(mirror)
      await insertMessages(pool, ['a'])
      await until(() => progress.position === 1)
      const definition = { ...messages, name: 'fresh', mirror: { ...messages.mirror, collection: 'fresh' } }
      await pool.query(`INSERT INTO dualstore.collections (name, definition) VALUES ('fresh', $1)`, [
        definition,
      ])
      await pool.query(`SELECT dualstore.create_partition('fresh')`)
      await pool.query(
        `INSERT INTO dualstore.documents SELECT 'fresh', id, 1, item, created_at, updated_at FROM dualstore.documents`,
      )
      await caughtUp(pool)
      expect((await pool.query('SELECT * FROM dualstore.parked')).rows).toEqual([])
      expect((await mirror.get(definition, 'a'))?.item.content).toBe('hello')
    })
  },
)

describe.runIf(mongo !== undefined)('a document that MongoDB cannot take (I6)', () => {
  const parked = async () =>
    (await pool.query('SELECT id, seq, reason FROM dualstore.parked ORDER BY id')).rows

  test('too large for BSON: it is parked with the reason, others flow, and its later changes wait behind it', async () => {
    const mirror = await testMirror('mongodb', mongo?.uri)
    await follow(mirror)
    await insertMessages(pool, ['before'])
    await insertMessages(pool, ['huge'], 'x'.repeat(17 * 1024 * 1024))
    await insertMessages(pool, ['after'])
    await caughtUp(pool)
    expect(await parked()).toEqual([{ id: 'huge', seq: 2, reason: expect.stringContaining('16777216') }])
    await updateMessages(pool, ['huge'], 'small now')
    await updateMessages(pool, ['after'], 'goes on')
    await caughtUp(pool)
    expect(await mirror.get(messages, 'huge')).toBeUndefined()
    expect(await parked()).toMatchObject([{ id: 'huge', seq: 2 }])
    await expectEqual(pool, mirror, ['huge'])
  })

  test("against an operator's unique index: only the second of two is parked", async () => {
    const mirror = await testMirror('mongodb', mongo?.uri)
    await mirror.prepare(messages)
    const client = new MongoClient(mongo?.uri ?? '')
    const { databases } = await client.db().admin().listDatabases()
    for (const { name } of databases.filter((one) => one.name.startsWith('dualstore_test_'))) {
      const collection = client.db(name).collection('duck_session_messages')
      if ((await collection.countDocuments()) === 0)
        await collection.createIndex({ text: 1 }, { unique: true })
    }
    await client.close()
    await follow(mirror)
    await insertMessages(pool, ['one'], 'same')
    await insertMessages(pool, ['two'], 'same')
    await insertMessages(pool, ['three'], 'other')
    await caughtUp(pool)
    expect(await parked()).toEqual([
      { id: 'two', seq: 2, reason: expect.stringMatching(/duplicate|E11000/i) },
    ])
    await expectEqual(pool, mirror, ['two'])
  })

  test('killed and started again, MongoDB is caught up', async () => {
    const mirror = await testMirror('mongodb', mongo?.uri)
    const { progress } = await follow(mirror, { timeoutMs: 1000 })
    await insertMessages(pool, numbered(100))
    await caughtUp(pool)
    await mongo?.kill9()
    await updateMessages(pool, numbered(100), 'meanwhile')
    await until(() => progress.failing)
    await mongo?.restart()
    await caughtUp(pool)
    await expectEqual(pool, mirror)
  })
})

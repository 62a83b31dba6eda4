import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { readChanges, readHead, readPiece } from '../../../src/server/changes/read.js'
import { readPartitions } from '../../../src/server/changes/retention.js'
import { loadMigrations, migrate } from '../../../src/server/db/migrate.js'
import type { Pool } from '../../../src/server/db/pool.js'
import { codeOf } from '../../../src/server/db/sqlstate.js'
import type { Log } from '../../../src/server/followers/contract.js'
import { MIRROR_FOLLOWER } from '../../../src/server/followers/mirror.js'
import { createRetention, type RetentionOptions } from '../../../src/server/followers/retention.js'
import {
  ensureFollower,
  ensureLease,
  loseFollower,
  readFollowers,
} from '../../../src/server/store/positions.js'
import { createDatabase, type TestDatabase } from '../../support/database.js'
import { ofType, openStream } from '../../support/event-stream.js'
import {
  caughtUp,
  deleteMessages,
  expectEqual,
  insertMessages,
  testFollower,
  testMirror,
  until,
} from '../../support/follower.js'
import { call } from '../../support/http.js'
import { listeningServer } from '../../support/server.js'

const HOUR = 3_600_000
let database: TestDatabase
let pool: Pool
beforeEach(async () => {
  database = await createDatabase({ poolSize: 14 })
  pool = database.pool
  await pool.query(`SELECT dualstore.create_partition('session_messages')`)
})
afterEach(() => database.close())

const numbered = (count: number, name: string) =>
  Array.from({ length: count }, (_, index) => `${name}${index}`)

function retention(given: Partial<RetentionOptions> = {}) {
  const logged: { level: string; message: string; follower?: unknown }[] = []
  const write = (level: string) => (fields: object, message: string) =>
    void logged.push({ level, message, ...fields })
  const log: Log = { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') }
  const { round } = createRetention({
    pool,
    log,
    maxAgeMs: 0,
    maxBytes: 0,
    partitionChanges: 100,
    ...given,
  })
  return { round, logged, told: (level: string) => logged.filter((line) => line.level === level) }
}

/** Makes the changes up to a position as old as that. */
const age = (upTo: number, ms: number) =>
  pool.query('UPDATE dualstore.changes SET at = dualstore.now_ms() - $2 WHERE seq <= $1', [upTo, ms])
const follower = async (id = MIRROR_FOLLOWER, on = pool) =>
  (await readFollowers(on)).find((one) => one.id === id)
const setPosition = (position: number, id = MIRROR_FOLLOWER) =>
  pool.query('UPDATE dualstore.followers SET position = $2 WHERE id = $1', [id, position])
const seqs = async () =>
  (await pool.query<{ seq: number }>('SELECT seq FROM dualstore.changes ORDER BY seq')).rows.map(
    ({ seq }) => seq,
  )
const upFrom = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index)

describe('partitions', () => {
  test('are prepared ahead of the newest change, without gaps, and the last one takes whatever comes', async () => {
    const { round } = retention()
    await round()
    await insertMessages(pool, numbered(250, 'a'))
    await round()
    const parts = await readPartitions(pool)
    expect(parts.map(({ after, last }) => [after, last])).toEqual([
      ...upFrom(0, parts.length - 2).map((n) => [n * 100, (n + 1) * 100]),
      [(parts.length - 1) * 100, null],
    ])
    expect(parts.filter(({ after, last }) => last !== null && after >= 250).length).toBeGreaterThanOrEqual(4)
    // Far past everything that is prepared.
    await insertMessages(pool, numbered(2500, 'b'))
    expect(await seqs()).toEqual(upFrom(1, 2750))
    await round()
    await round()
    expect((await readPartitions(pool)).filter(({ after }) => after >= 2750).length).toBeGreaterThanOrEqual(5)
    expect(await seqs()).toEqual(upFrom(1, 2750))
  })

  test('are switched while 8 writers write: nothing fails, nothing is lost, and log order is commit order', async () => {
    // Small partitions and no pause, so that every way of switching happens many times.
    const { round } = retention({ partitionChanges: 100 })
    const target = 8000
    let written = 0
    let writing = true
    const write = async (writer: number) => {
      for (let turn = 0; written < target; turn++) {
        const ids = numbered([1, 30, 90][turn % 3] ?? 1, `w${writer}-${turn}-`)
        await insertMessages(pool, ids)
        written += ids.length
      }
    }
    const seen: number[] = []
    const read = async (): Promise<void> => {
      for (let position = 0; ; ) {
        const last = !writing
        const { changes } = await readChanges(pool, position, 500)
        seen.push(...changes.map(({ seq }) => seq))
        position = changes.at(-1)?.seq ?? position
        if (last && changes.length === 0) return
      }
    }
    const switching = (async () => {
      let rounds = 0
      for (; writing; rounds++) {
        await round().catch((error) => {
          // Under this load the table may be busy for long; the next round does it.
          if (codeOf(error) !== '55P03') throw error
        })
      }
      return rounds
    })()
    const reading = read()
    await Promise.all(upFrom(1, 8).map(write)).finally(() => {
      writing = false
    })
    await reading
    expect(await switching).toBeGreaterThan(3)
    expect(seen.length).toBe(written)
    expect(new Set(seen).size).toBe(written)
    expect(seen).toEqual([...seen].sort((one, other) => one - other))
    expect((await readPartitions(pool)).length).toBeGreaterThan(10)
  })

  test('are not waited for: with somebody holding the table, writers go on', async () => {
    await insertMessages(pool, ['before'])
    const holder = await pool.connect()
    try {
      await holder.query('BEGIN; SELECT count(*) FROM dualstore.changes')
      const failed = retention().round()
      await insertMessages(pool, numbered(10, 'meanwhile'))
      await expect(failed).rejects.toMatchObject({ code: '55P03' })
    } finally {
      await holder.query('ROLLBACK')
      holder.release()
    }
    await retention().round()
    expect((await readPartitions(pool)).length).toBeGreaterThan(4)
  })
})

describe('by age', () => {
  test('whole partitions go when their newest change is too old; the floor is behind them', async () => {
    const { round } = retention({ maxAgeMs: HOUR })
    await round()
    await insertMessages(pool, numbered(450, 'a'))
    await age(320, 2 * HOUR)
    expect(await round()).toMatchObject({ heldBy: [], lost: [] })
    expect(await seqs()).toEqual(upFrom(301, 450))
    expect(await readHead(pool)).toMatchObject({ floor: 300, position: 450 })
    expect((await readPiece(pool, 100, 10)).floor).toBe(300)
  })

  test('a log that is too quiet to fill a partition is cut, and then goes as well', async () => {
    const { round } = retention({ maxAgeMs: HOUR })
    await round()
    await insertMessages(pool, numbered(30, 'a'))
    await age(30, 2 * HOUR)
    await round()
    expect(await readHead(pool)).toMatchObject({ floor: 30, position: 30 })
    await insertMessages(pool, ['next'])
    expect(await seqs()).toEqual([31])
    expect(await round()).toMatchObject({ dropped: [] })
  })

  test('a running follower holds the log back, and is named with how to mend it; a lease and a paused one do not', async () => {
    const { round, told } = retention({ maxAgeMs: HOUR })
    await round()
    await ensureFollower(pool, MIRROR_FOLLOWER)
    await ensureLease(pool, 'ingest-opencode')
    await insertMessages(pool, numbered(450, 'a'))
    await setPosition(150)
    await age(450, 2 * HOUR)
    expect(await round()).toMatchObject({ heldBy: [MIRROR_FOLLOWER], lost: [] })
    expect(await seqs()).toEqual(upFrom(101, 450))
    await round()
    expect(told('warn')).toMatchObject([
      { follower: MIRROR_FOLLOWER, position: 150, head: 450, message: expect.stringContaining('pause it') },
    ])
    await pool.query(`UPDATE dualstore.followers SET state = 'paused' WHERE id = $1`, [MIRROR_FOLLOWER])
    expect(await round()).toMatchObject({ heldBy: [], lost: [MIRROR_FOLLOWER] })
    expect((await readHead(pool)).floor).toBeGreaterThanOrEqual(400)
    expect(await follower()).toMatchObject({
      state: 'lost',
      state_reason: expect.stringContaining('it was paused'),
    })
    expect(await follower('ingest-opencode')).toMatchObject({ state: 'running' })
  })
})

describe('by size', () => {
  const large = 'x'.repeat(2000)
  const total = async () => (await readPartitions(pool)).reduce((sum, { bytes }) => sum + bytes, 0)

  test('the oldest partitions go until the rest fits', async () => {
    await retention().round()
    await insertMessages(pool, numbered(1000, 'a'), large)
    const before = await total()
    await retention({ maxBytes: Math.round(before / 2) }).round()
    expect(await total()).toBeLessThanOrEqual(before / 2)
    const left = await seqs()
    expect(left.at(-1)).toBe(1000)
    expect(left.length).toBeGreaterThan(100)
    expect((await readHead(pool)).floor).toBe((left[0] ?? 0) - 1)
  })

  test('a running follower that is behind is lost, loudly, and stops instead of skipping', async () => {
    await retention().round()
    const mirror = await testMirror('embedded')
    const { follower: following, progress, logged } = await testFollower(pool, mirror)
    await insertMessages(pool, numbered(50, 'seen'))
    following.run()
    await caughtUp(pool)
    await following.stop()
    await insertMessages(pool, numbered(1000, 'a'), large)
    const { round, told } = retention({ maxBytes: Math.round((await total()) / 2) })
    expect(await round()).toMatchObject({ lost: [MIRROR_FOLLOWER], heldBy: [] })
    expect(await follower()).toMatchObject({
      state: 'lost',
      position: 50,
      state_reason: expect.stringContaining('DUALSTORE_LOG_MAX_BYTES'),
    })
    expect(told('error')).toMatchObject([
      { follower: MIRROR_FOLLOWER, message: expect.stringContaining('lost') },
    ])

    const again = await testFollower(pool, mirror)
    again.follower.run()
    await until(() => again.progress.failing)
    expect(again.progress.lastError).toContain('must be built anew')
    expect(again.logged).toContain('this follower is lost')
    await insertMessages(pool, ['later'])
    await again.follower.stop()
    expect(await follower()).toMatchObject({ state: 'lost', position: 50 })
    expect(progress.failing).toBe(false)
    expect(logged).not.toContain('this follower is lost')
  })

  test('one that leads while its place goes stops too', async () => {
    await retention().round()
    const mirror = await testMirror('embedded')
    let block: (() => void) | undefined
    let reached = () => {}
    const atGate = new Promise<void>((resolve) => {
      reached = resolve
    })
    const slow = await testFollower(pool, {
      ...mirror,
      kind: 'embedded',
      apply: async (changes) => {
        reached()
        await new Promise<void>((resolve) => {
          block = resolve
        })
        return mirror.apply(changes)
      },
    })
    await insertMessages(pool, ['first'])
    slow.follower.run()
    await atGate
    await insertMessages(pool, numbered(1000, 'a'), large)
    await retention({ maxBytes: 100_000 }).round()
    block?.()
    await until(() => slow.progress.failing)
    expect(await follower()).toMatchObject({ state: 'lost', position: 0 })
    await slow.follower.stop()
  })
})

test('a new follower is lost when the beginning of the log is gone', async () => {
  await retention().round()
  await insertMessages(pool, numbered(250, 'a'))
  await age(250, 2 * HOUR)
  await retention({ maxAgeMs: HOUR }).round()
  const fresh = await testFollower(pool, await testMirror('embedded'))
  fresh.follower.run()
  await until(async () => (await follower())?.state === 'lost')
  expect((await follower())?.state_reason).toContain('the log begins behind')
  await fresh.follower.stop()
})

test('a follower goes on across partitions, a gap in the numbers, and partitions that go behind it', async () => {
  const { round } = retention({ maxAgeMs: 1 })
  await round()
  const mirror = await testMirror('embedded')
  const { follower: following } = await testFollower(pool, mirror)
  following.run()
  for (let turn = 0; turn < 6; turn++) {
    await insertMessages(pool, numbered(130, `t${turn}-`))
    if (turn === 3) await pool.query(`SELECT setval('dualstore.changes_seq', 1000000000000)`)
    await caughtUp(pool)
    await round()
  }
  await expectEqual(pool, mirror)
  expect((await readHead(pool)).floor).toBeGreaterThan(1_000_000_000_000)
  expect(await follower()).toMatchObject({ state: 'running' })
  await following.stop()
})

test('a log with rows is brought into partitions as it is, and goes on behind them', async () => {
  const old = await createDatabase({ migrated: false })
  try {
    const shipped = await loadMigrations()
    await migrate(old.pool, shipped.slice(0, 6))
    await old.pool.query(`SELECT dualstore.create_partition('session_messages')`)
    await insertMessages(old.pool, numbered(500, 'old'))
    await deleteMessages(old.pool, numbered(20, 'old'))
    const { rows: before } = await old.pool.query('SELECT * FROM dualstore.changes ORDER BY seq')
    const file = async () =>
      (await old.pool.query(`SELECT relfilenode FROM pg_class WHERE oid = 'dualstore.changes_1'::regclass`))
        .rows
    const stored = await file()
    await migrate(old.pool)
    expect((await old.pool.query('SELECT * FROM dualstore.changes ORDER BY seq')).rows).toEqual(before)
    // The same file: nothing was copied.
    expect(await file()).toEqual(stored)
    expect(await readPartitions(old.pool)).toMatchObject([
      { name: 'changes_1', after: 0, last: 520 },
      { name: 'changes_open', after: 520, last: null },
    ])
    await insertMessages(old.pool, ['new'])
    expect(await readHead(old.pool)).toMatchObject({ position: 521, floor: 0 })
    expect((await readChanges(old.pool, 519, 10)).changes.map(({ seq }) => seq)).toEqual([520, 521])
  } finally {
    await old.close()
  }
})

test('a stream and a poll that come back to a position that is gone are told so', async () => {
  const { base, pool } = await listeningServer({ logRetentionMs: 0, logMaxBytes: 0 })
  await insertMessages(pool, numbered(10, 'a'))
  const { epoch } = await readHead(pool)
  await pool.query('SELECT dualstore.cut_log()')
  await pool.query(`SELECT dualstore.drop_log_partition('changes_1')`)
  await insertMessages(pool, ['after'])
  const gone = await openStream(`${base}/api/v1/stream/session_messages`, { 'last-event-id': `${epoch}-4` })
  expect((await gone.until(ofType('reset'))).data.data).toMatchObject({
    reason: 'gone',
    requested: `${epoch}-4`,
    position: `${epoch}-11`,
  })
  const poll = await fetch(`${base}/api/v1/session_messages/changes?since=${epoch}-4`, {
    headers: { connection: 'close' },
  })
  expect(poll.status).toBe(410)
  expect(await poll.json()).toMatchObject({ code: 'POSITION_GONE', reason: 'gone' })
  const good = await openStream(`${base}/api/v1/stream/session_messages`, { 'last-event-id': `${epoch}-10` })
  expect((await good.until(ofType('insert'))).data.data.id).toBe('after')
})

test('a server whose mirror is lost says so where its health is asked for, and goes on writing', async () => {
  const { app, pool } = await listeningServer()
  await until(async () => (await follower(MIRROR_FOLLOWER, pool)) !== undefined)
  await loseFollower(pool, MIRROR_FOLLOWER, 'it was too slow')
  await until(async () => (await call(app, 'GET', '/health/ready')).json.checks.mirror.ok === false)
  expect((await call(app, 'GET', '/health/ready')).json).toMatchObject({
    ready: true,
    checks: { mirror: { ok: false, state: 'lost', reason: 'lost: it was too slow' } },
  })
  const body = { session_id: 's', role: 'user', content: 'c' }
  expect((await call(app, 'POST', '/api/v1/session_messages', { body })).status).toBe(201)
  // As soon as the follower has noticed; a strict write before that waits in vain.
  const headers = { 'x-dualstore-consistency': 'strict' }
  const strict = () => call(app, 'POST', '/api/v1/session_messages', { body, headers })
  await until(async () => (await strict()).status === 503)
})

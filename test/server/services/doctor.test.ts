import pg from 'pg'
import { beforeEach, describe, expect, test } from 'vitest'
import { loadConfig } from '../../../src/server/config/index.js'
import { diagnose } from '../../../src/server/context.js'
import { examineMetrics } from '../../../src/server/services/doctor/metrics.js'
import { examineLog, examineServer } from '../../../src/server/services/doctor/postgres.js'
import { examine, type Finding } from '../../../src/server/services/doctor.js'
import { createDatabase, testDatabase } from '../../support/database.js'
import { dataDirectory } from '../../support/directory.js'
import { caughtUp, insertMessages, testFollower, testMirror, until } from '../../support/follower.js'

const database = await testDatabase()
const mirror = await testMirror('embedded')
const { follower } = await testFollower(database.pool, mirror)
const settings = (given: object = {}) =>
  loadConfig({ given: { dataDir: '.', databaseUrl: database.url, ...given }, env: {} }).config
const look = () => examine({ settings: settings(), pool: database.pool, mirror })
const silent = { debug() {}, info() {}, warn() {}, error() {} }
const wrong = (findings: readonly Finding[]) => findings.filter(({ level }) => level !== 'ok')
const found = (findings: readonly Finding[], check: string) => findings.filter((one) => one.check === check)

beforeEach(async () => {
  await database.pool.query('DELETE FROM dualstore.parked')
})

describe('on stores as they are', () => {
  test('nobody leads while the log grows: serve mends it; a leader that has caught up is well', async () => {
    await database.pool.query(`INSERT INTO dualstore.followers (id) VALUES ('mirror') ON CONFLICT DO NOTHING`)
    await insertMessages(database.pool, ['one'])
    expect(found(await look(), 'follower mirror')).toEqual([
      expect.objectContaining({ level: 'problem', mend: expect.stringContaining('dualstore serve') }),
    ])
    follower.run()
    await caughtUp(database.pool)
    expect(found(await look(), 'follower mirror')).toEqual([expect.objectContaining({ level: 'ok' })])
  })

  test('parked documents are a problem, with the command that shows them', async () => {
    await database.pool.query(
      `INSERT INTO dualstore.parked (follower, collection, id, seq, reason) VALUES ('mirror', 'c', 'i', 1, 'r')`,
    )
    expect(wrong(found(await look(), 'follower mirror'))).toEqual([
      expect.objectContaining({ message: expect.stringContaining('1 documents are parked') }),
    ])
  })

  test('who holds the lock of the log while others wait is named by its pid', async () => {
    const holder = new pg.Client({ connectionString: database.url, application_name: 'holder' })
    await holder.connect()
    await holder.query('BEGIN; SELECT dualstore.lock_log()')
    const { rows } = await holder.query('SELECT pg_backend_pid() AS pid')
    const waiting = insertMessages(database.pool, ['waits'])
    let problem: Finding | undefined
    await until(async () => {
      problem = wrong(found(await look(), 'transactions'))[0]
      return problem !== undefined
    })
    expect(problem).toMatchObject({
      level: 'problem',
      message: expect.stringContaining('holder'),
      mend: `SELECT pg_terminate_backend(${rows[0].pid})`,
    })
    await holder.end()
    await waiting
  })

  test('a database that was never migrated is told so, and is not migrated', async () => {
    const fresh = await createDatabase({ migrated: false })
    const findings = await examine({ settings: settings(), pool: fresh.pool, mirror: undefined })
    expect(found(findings, 'schema')).toEqual([expect.objectContaining({ mend: 'dualstore db migrate' })])
    const { rows } = await fresh.pool.query(`SELECT to_regclass('dualstore.migrations') AS name`)
    expect(rows).toEqual([{ name: null }])
    await fresh.close()
  })

  test('PostgreSQL that cannot be reached is a finding, and the rest is looked at all the same', async () => {
    const config = settings({
      databaseUrl: 'postgresql://user:hunter2@127.0.0.1:9/none',
      dataDir: await dataDirectory(),
      host: '0.0.0.0',
    })
    const findings = await diagnose(config, silent)
    expect(found(findings, 'postgres')).toEqual([
      expect.objectContaining({ level: 'problem', message: expect.stringContaining('127.0.0.1:9') }),
    ])
    expect(found(findings, 'settings')).not.toEqual([])
    expect(JSON.stringify(findings)).not.toContain('hunter2')
  })

  test('a mirror that is away is a problem; its clock and its indexes are looked at when it is not', async () => {
    const away = {
      ...mirror,
      examine: () => Promise.reject(new Error('no answer')),
      kind: 'mongodb' as const,
    }
    expect(
      found(await examine({ settings: settings(), pool: database.pool, mirror: away }), 'mirror (mongodb)'),
    ).toEqual([expect.objectContaining({ level: 'problem', message: 'no answer' })])
    const late = {
      ...mirror,
      examine: async () => ({ clock: Date.now() - 60_000, missingIndexes: ['duck_a.dualstore_id'] }),
    }
    const findings = wrong(await examine({ settings: settings(), pool: database.pool, mirror: late }))
    expect(findings.map(({ message }) => message)).toEqual(
      expect.arrayContaining([
        expect.stringContaining('1 min'),
        expect.stringContaining('duck_a.dualstore_id'),
      ]),
    )
  })
})

test.each([
  [{ standby: true }, 'standby'],
  [{ read_only: true }, 'read-only'],
  [{ version: 140_000 }, 'too old'],
  [{ replication_lag_ms: 20_000 }, '20 s behind'],
  [{ connections: 95 }, '95 of 100'],
  [{ max_connections: 8 }, 'DATABASE_POOL_SIZE'],
])('a server with %j is told by "%s"', (facts, words) => {
  const well = {
    version: 180_000,
    standby: false,
    read_only: false,
    replication_lag_ms: null,
    connections: 5,
    max_connections: 100,
    database_bytes: 1,
    now_ms: 0,
  }
  expect(wrong(examineServer(well, 10))).toEqual([])
  const findings = wrong(examineServer({ ...well, ...facts }, 10))
  expect(findings.map(({ message }) => message)).toContainEqual(expect.stringContaining(words))
  for (const { mend } of findings) expect(mend).toBeTruthy()
})

test('a follower that falls behind what is kept of the log is told before it happens, and after', () => {
  const log = { head: 1000, floor: 500, bytes: 1, oldest_ms: 1 }
  const at = (position: number) => [
    { id: 'mirror', position, head: 1000, behind_ms: 1, led: true, leader: 'x', last_error: null, parked: 0 },
  ]
  expect(wrong(examineLog(log, at(900)))).toEqual([])
  expect(wrong(examineLog(log, at(550)))).toEqual([expect.objectContaining({ level: 'warning' })])
  expect(wrong(examineLog(log, at(400)))).toEqual([
    expect.objectContaining({ level: 'problem', mend: 'dualstore mirror rebuild' }),
  ])
})

test.each([
  [{ dualWriteConsistency: 'strict', dualWriteEnabled: false }, 'no mirror is written'],
  [{ dualWriteConsistency: 'strict', waitTimeoutMs: 100 }, 'less time'],
  [{ host: '0.0.0.0' }, 'anybody who reaches'],
  [{ authEnabled: false, authBearerToken: 'x' }, 'switched off'],
  [{ metrics: 'off', metricsToken: 'x' }, 'metrics are switched off'],
])('settings %j contradict each other', async (given, words) => {
  const findings = await examine({ settings: settings(given), pool: new Error('none'), mirror: undefined })
  expect(found(findings, 'settings').map(({ message }) => message)).toContainEqual(
    expect.stringContaining(words),
  )
})

test('metrics of a running server tell the same', () => {
  const text = (lines: Record<string, number>) =>
    Object.entries({
      dualstore_postgres_up: 1,
      'dualstore_follower_position{follower="mirror"}': 5,
      'dualstore_follower_led{follower="mirror"}': 1,
      ...lines,
    })
      .map(([name, value]) => `${name} ${value}`)
      .join('\n')
  expect(wrong(examineMetrics(text({})))).toEqual([])
  const of = (lines: Record<string, number>) => wrong(examineMetrics(text(lines))).map(({ check }) => check)
  expect(of({ dualstore_postgres_up: 0 })).toEqual(['postgres'])
  expect(of({ 'dualstore_breaker_state{store="postgres_writes"}': 2 })).toEqual(['postgres'])
  expect(of({ 'dualstore_mirror_trouble{kind="full"}': 1 })).toEqual(['mirror'])
  expect(of({ 'dualstore_parked_documents{follower="mirror"}': 2 })).toEqual(['follower mirror'])
  expect(of({ dualstore_streams_slow: 1 })).toEqual(['streams'])
  expect(of({ 'dualstore_pool_connections{state="waiting"}': 3 })).toEqual(['pool'])
})

import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { MongoClient } from 'mongodb'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Pool } from '../../src/server/db/pool.js'
import { testDatabase } from '../support/database.js'
import { until } from '../support/follower.js'
import { atEndOfFile } from '../support/leaks.js'
import { legacyDatabase, writeLegacyDatabase } from '../support/legacy-database.js'
import { items } from '../support/migration.js'
import { mongoIsAvailable, testMongo } from '../support/mongo.js'
import { dualstore, freshPath, launch, ndjson, ndjsonFile } from './program.js'

const available = await mongoIsAvailable()
const command = 'migrate-from-dualstore-http'
const legacy = legacyDatabase({ seed: 11, documents: 400 })

test('a source has to be named, and one that is not complete to be accepted', async () => {
  const { url } = await testDatabase()
  const bare = await dualstore([command], { env: { DATABASE_URL: url } })
  expect(bare).toMatchObject({ code: 2, stdout: '' })
  expect(bare.stderr).toMatch(/--mongo-uri/)
  const both = await dualstore([command, '--mongo-uri', 'mongodb://a', '--url', 'http://a'])
  expect(both.code).toBe(2)
  const wrong = await dualstore([command, '--mongo-uri', 'postgres://me:secret@host', '--rate', '0'])
  expect(wrong.code).toBe(2)
  expect(wrong.stderr).not.toContain('secret')
})

describe.skipIf(!available)('from a MongoDB', () => {
  let uri: string
  let database: string
  let pool: Pool
  let cwd: string
  let to: string[]
  const migrate = (...args: string[]) => [command, '--mongo-uri', uri, '--database', database, ...to, ...args]
  const read = async () => {
    const { rows } = await pool.query<{ read: number }>(
      'SELECT coalesce(sum(read), 0)::bigint AS read FROM dualstore.migration_collections',
    )
    return rows[0]?.read ?? 0
  }

  beforeAll(async () => {
    const mongo = await testMongo()
    atEndOfFile(() => mongo.close())
    ;({ uri, database } = mongo)
    await writeLegacyDatabase(legacy, { uri, database })
    const target = await testDatabase()
    pool = target.pool
    to = ['--database-url', target.url]
    cwd = freshPath('migrate')
    await mkdir(cwd)
  })

  test('killed and interrupted on the way, it ends with everything, and again with nothing', async () => {
    const plan = await dualstore(migrate('--dry-run', '--json'), { cwd })
    expect(plan).toMatchObject({ code: 0 })
    const planned = JSON.parse(plan.stdout)
    expect(planned).toMatchObject({ read: 1200, complete: true, estimated_seconds: expect.any(Number) })
    expect(await read()).toBe(0)

    const slowly = migrate('--batch', '50', '--rate', '400')
    const killed = launch(slowly, { cwd })
    await until(async () => (await read()) >= 100)
    killed.signal('SIGKILL')
    await killed.ended
    const before = await read()
    const interrupted = launch(slowly, { cwd })
    await until(async () => (await read()) > before)
    interrupted.signal('SIGINT')
    const { code, output } = await interrupted.ended
    expect(code).toBe(130)
    expect(output).toContain('the same command goes on from here')
    expect(await read()).toBeLessThan(1200)

    const whole = await dualstore(migrate('--json'), { cwd })
    expect(whole.code).toBe(0)
    const report = JSON.parse(whole.stdout)
    for (const collection of legacy.collections) {
      const { winners, ...expected } = legacy.expected(collection)
      expect(report.collections[collection]).toEqual({ ...expected, replaced: 0, unchanged: 0 })
      expect(await items(pool, collection)).toEqual(winners)
    }
    const { read: all, created, merged, quarantined } = report
    expect({ all, created, merged, quarantined }).toEqual({
      all: 1200,
      created: planned.created,
      merged: planned.merged,
      quarantined: planned.quarantined,
    })
    expect(report).toMatchObject({
      state: 'backfilled',
      quarantine_file: `${report.migration}.quarantine.ndjson`,
    })
    const refused = ndjsonFile(join(cwd, report.quarantine_file))
    expect(refused.length).toBe(quarantined)
    expect(Object.keys(refused[0] ?? {})).toEqual(['collection', 'source_id', 'id', 'reason', 'document'])

    const again = await dualstore(migrate('--json', '--quarantine', 'q.ndjson'), { cwd })
    expect(JSON.parse(again.stdout)).toMatchObject({
      read: 1200,
      created: 0,
      replaced: 0,
      merged,
      quarantined,
    })
    expect(ndjsonFile(join(cwd, 'q.ndjson'))).toEqual(refused)
  })

  test('status, quarantine and history tell of it', async () => {
    const status = await dualstore([command, 'status', '--json', ...to])
    const told = JSON.parse(status.stdout)
    expect(told).toMatchObject({ state: 'backfilled', pass: 2, runner: null, lag: null, read: 1200 })
    expect(told.events.map(({ to: state }: { to: string }) => state)).toEqual(['planned', 'backfilled'])
    const quarantine = await dualstore([command, 'quarantine', ...to])
    expect(ndjson(quarantine.stdout)).toEqual(ndjsonFile(join(cwd, 'q.ndjson')))
    const { rows } = await pool.query('SELECT collection, id FROM dualstore.migration_history LIMIT 1')
    const history = await dualstore([command, 'history', rows[0].collection, rows[0].id, '--json', ...to])
    expect(JSON.parse(history.stdout)[0].item.id).toBe(rows[0].id)
  })

  test('verified, it is clean; what differs, and what was not checked, is told', async () => {
    // The mirror is the source of nothing here: no server has ever written it.
    const verify = [command, 'verify', '--mongo-uri', uri, ...to]
    const clean = await dualstore([...verify, '--skip-mirror', '--json', '--report', 'differences.ndjson'], {
      cwd,
    })
    expect(clean).toMatchObject({ code: 0 })
    const result = JSON.parse(clean.stdout)
    expect(result).toMatchObject({ clean: true, mirror: { skipped: expect.any(String) } })
    expect(clean.stderr).toContain('not checked: the mirror')
    expect(ndjsonFile(join(cwd, 'differences.ndjson'))).toEqual([])
    const { stdout } = await dualstore([command, 'status', '--json', ...to])
    expect(JSON.parse(stdout)).toMatchObject({ state: 'verified', verification: result })

    const { rows } = await pool.query(
      'DELETE FROM dualstore.documents WHERE (collection, id) IN (SELECT collection, id FROM dualstore.documents LIMIT 1) RETURNING id',
    )
    const differs = await dualstore(
      [
        ...verify,
        '--yes',
        '--report',
        'differences.ndjson',
        '--mongodb-uri',
        uri,
        '--mongodb-database',
        'none',
      ],
      { cwd },
    )
    expect(differs.code).toBe(1)
    expect(differs.stdout).toContain(rows[0].id)
    expect(differs.stderr).toContain('PostgreSQL and the mirror differ')
    const found = ndjsonFile(join(cwd, 'differences.ndjson'))
    expect(found.length).toBeGreaterThan(0)
    expect(new Set(found.map(({ id }) => id))).toEqual(new Set([rows[0].id]))

    const refused = await dualstore([...verify, '--report', 'differences.ndjson'], { cwd })
    expect(refused).toMatchObject({ code: 2, stdout: '' })
    // Taken over once more, it is whole again.
    expect((await dualstore(migrate(), { cwd })).code).toBe(0)
    expect(
      (await dualstore([...verify, '--skip-mirror', '--agent-name', 'other'], { cwd })).stderr,
    ).toContain('not from')
    expect((await dualstore([...verify, '--skip-mirror'], { cwd })).code).toBe(0)
  })

  test('a file that something else is in is not overwritten', async () => {
    const foreign = await dualstore(migrate('--quarantine', '/etc/hostname'), { cwd })
    expect(foreign).toMatchObject({ code: 2, stdout: '' })
    expect(existsSync(join(cwd, 'other'))).toBe(false)
  })

  test('followed, what the legacy server still writes comes over, until it is interrupted', async () => {
    const following = launch(migrate('--follow', '--poll', '100', '--collections', 'session_messages'), {
      cwd,
    })
    const client = new MongoClient(uri)
    try {
      await following.seen(/following/)
      await client
        .db(database)
        .collection('duck_session_messages')
        .insertOne({
          id: 'late',
          text: 'written meanwhile',
          timestamp: new Date().toISOString(),
          metadata: { session_id: 'ses_late', role: 'user', updated_at: new Date().toISOString() },
        })
      await until(async () => (await items(pool, 'session_messages')).has('late'))
      await until(async () => {
        const { stdout } = await dualstore([command, 'status', '--json', ...to])
        return JSON.parse(stdout).lag?.behind === 0
      })
    } finally {
      await client.close()
      following.signal('SIGINT')
    }
    const { code } = await following.ended
    expect(code).toBe(130)
    expect(JSON.parse((await dualstore([command, 'status', '--json', ...to])).stdout)).toMatchObject({
      state: 'following',
      runner: null,
    })
  })
})

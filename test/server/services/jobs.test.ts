import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Pool } from '../../../src/server/db/pool.js'
import { DualstoreError } from '../../../src/server/errors.js'
import type { Mirror } from '../../../src/server/mirror/contract.js'
import { ensureShipped } from '../../../src/server/services/collections.js'
import { SCHEDULED } from '../../../src/server/services/jobs.js'
import { localAccess } from '../../../src/server/services/principal.js'
import { finished, testAuditor } from '../../support/audit.js'
import { createDatabase, type TestDatabase } from '../../support/database.js'
import {
  caughtUp,
  insertMessages,
  messages,
  type TestFollower,
  testFollower,
  testMirror,
  until,
} from '../../support/follower.js'

let database: TestDatabase
let pool: Pool
let mirror: Mirror
let follower: TestFollower
let stops: (() => Promise<void>)[] = []

beforeEach(async () => {
  database = await createDatabase()
  pool = database.pool
  await ensureShipped(pool)
  mirror = await testMirror('embedded')
  follower = await testFollower(pool, mirror)
  follower.follower.run()
  await insertMessages(
    pool,
    Array.from({ length: 400 }, (_, index) => `m${1000 + index}`),
  )
  await caughtUp(pool)
})
afterEach(async () => {
  for (const stop of stops) await stop()
  stops = []
  await follower.follower.stop()
  await database.close()
})

const auditor = (options: Parameters<typeof testAuditor>[3] = {}, on = mirror) => {
  const made = testAuditor(pool, on, follower.hints, options)
  stops.push(made.stop)
  return made
}
/** Slow enough to be met half way: 20 documents a chunk. */
const slow = { collections: ['session_messages'], rate: 40 }
const documentsOf = (progress: object | null) => {
  const { counts = {} } = (progress ?? {}) as { counts?: Record<string, { documents: number }> }
  return counts.session_messages?.documents ?? 0
}

test('a job that runs is cancelled within moments and keeps what it has found', async () => {
  const { jobs } = auditor()
  await mirror.apply([{ definition: messages, id: 'm1000', seq: 1e6, version: 1, item: null }])
  const { id } = await jobs.start('verify', slow, localAccess)
  await until(async () => documentsOf((await jobs.get(id)).progress) >= 40)
  expect(await jobs.cancel(id)).toMatchObject({ state: 'running', cancel_requested: true })
  await until(async () => (await jobs.get(id)).finished_at !== null)
  expect(await jobs.get(id)).toMatchObject({ state: 'cancelled', result: null, started_by: 'local' })
  let found = ''
  for await (const lines of await jobs.findings(id)) found += lines
  expect(JSON.parse(found)).toMatchObject({ id: 'm1000', kind: 'missing' })
  await expect(jobs.cancel(id)).rejects.toMatchObject({ code: 'CONFLICT' })
})

test('jobs of a kind run one after the other; one that waits is cancelled at once', async () => {
  const { jobs } = auditor()
  const first = await jobs.start('verify', slow, localAccess)
  const second = await jobs.start('verify', {}, localAccess)
  await until(async () => (await jobs.get(first.id)).state === 'running')
  expect(await jobs.get(second.id)).toMatchObject({ state: 'queued' })
  expect(await jobs.cancel(second.id)).toMatchObject({ state: 'cancelled', finished_at: expect.any(Date) })
  // Of another kind one runs beside it.
  const repair = await jobs.start('repair', {}, localAccess)
  await finished(jobs, repair.id)
  expect(await jobs.get(first.id)).toMatchObject({ state: 'running' })
  await jobs.cancel(first.id)
})

test('a job that is left in the middle is gone on with by another instance, and counts everything once', async () => {
  const one = auditor()
  const { id } = await one.jobs.start('verify', { ...slow, rate: 200 }, localAccess)
  await until(async () => documentsOf((await one.jobs.get(id)).progress) >= 100)
  await one.stop()
  const left = await one.jobs.get(id)
  expect(left).toMatchObject({ state: 'running', finished_at: null })
  const before = documentsOf(left.progress)
  expect(before).toBeLessThan(400)
  const two = auditor()
  const { result, job } = await finished(two.jobs, id)
  expect(result).toMatchObject({ agree: true, documents: 400 })
  expect(job.started_at).toEqual(left.started_at)
})

test('an outage of the mirror is told and waited for', async () => {
  let out = true
  const flaky: Mirror = {
    ...mirror,
    kind: mirror.kind,
    raw: (definition, range) => {
      if (out) throw new DualstoreError('MIRROR_UNAVAILABLE', 'out for the test')
      return mirror.raw(definition, range)
    },
  }
  const { jobs } = auditor({}, flaky)
  const { id } = await jobs.start('verify', {}, localAccess)
  await until(async () => (await jobs.get(id)).error !== null)
  expect(await jobs.get(id)).toMatchObject({
    state: 'running',
    error: { code: 'MIRROR_UNAVAILABLE', message: 'out for the test' },
  })
  out = false
  const { job, result } = await finished(jobs, id)
  expect(result).toMatchObject({ agree: true, documents: 400 })
  expect(job.error).toBeNull()
})

test('what a job does not expect fails it, without telling its insides', async () => {
  const broken: Mirror = {
    ...mirror,
    kind: mirror.kind,
    raw: () => {
      throw new Error('secret')
    },
  }
  const { jobs } = auditor({}, broken)
  const { id } = await jobs.start('verify', {}, localAccess)
  await until(async () => (await jobs.get(id)).finished_at !== null)
  const job = await jobs.get(id)
  expect(job).toMatchObject({ state: 'failed', error: { code: 'INTERNAL' } })
  expect(JSON.stringify(job)).not.toContain('secret')
})

test('a schedule starts verifications by itself, one of all instances does, and no second one meanwhile', async () => {
  const { jobs } = auditor({ intervalMs: 400 })
  auditor({ intervalMs: 400 })
  await until(async () => (await jobs.list({ kind: 'verify', state: 'done', limit: 9 })).length >= 2)
  const done = await jobs.list({ kind: 'verify', limit: 9 })
  for (const job of done) expect(job.started_by).toBe(SCHEDULED)
  const starts = done.map((job) => job.created_at.getTime())
  starts.slice(1).forEach((start, index) => {
    expect((starts[index] ?? 0) - start).toBeGreaterThanOrEqual(0.9 * 400)
  })
})

test('what cannot be done is refused before it waits', async () => {
  const { jobs } = auditor()
  await expect(jobs.start('verify', { collections: ['nothing'] }, localAccess)).rejects.toMatchObject({
    code: 'COLLECTION_NOT_FOUND',
  })
  await expect(jobs.get('job_nothing')).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

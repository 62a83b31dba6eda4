import { expect, test } from 'vitest'
import type { Log } from '../../../src/server/followers/contract.js'
import { createLeased } from '../../../src/server/followers/leased.js'
import { readFollowers } from '../../../src/server/store/positions.js'
import { testDatabase } from '../../support/database.js'
import { until } from '../../support/follower.js'
import { atEndOfFile } from '../../support/leaks.js'

const quiet: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }

test('of several instances one works, and when it stops another goes on at once', async () => {
  const { pool } = await testDatabase()
  const working = new Set<string>()
  let most = 0
  const start = (instance: string) => {
    const work = (signal: AbortSignal) =>
      new Promise<void>((resolve) => {
        working.add(instance)
        most = Math.max(most, working.size)
        signal.addEventListener('abort', () => {
          working.delete(instance)
          resolve()
        })
      })
    const follower = createLeased({ id: 'work', instance, pool, log: quiet, pollMs: 20, work })
    atEndOfFile(() => follower.stop())
    follower.run()
    return follower
  }
  const followers = { a: start('a'), b: start('b'), c: start('c') }
  for (let left = 3; left > 0; left--) {
    await until(() => working.size === 1)
    const [leader] = [...working] as (keyof typeof followers)[]
    await followers[leader!].stop()
  }
  expect(working.size).toBe(0)
  expect(most).toBe(1)
})

test('work whose lease another has taken is told to stop', async () => {
  const { pool } = await testDatabase()
  let signal: AbortSignal | undefined
  const work = (given: AbortSignal) =>
    new Promise<void>((resolve) => {
      signal = given
      given.addEventListener('abort', () => resolve())
    })
  const follower = createLeased({ id: 'work', instance: 'a', pool, log: quiet, pollMs: 20, work })
  atEndOfFile(() => follower.stop())
  follower.run()
  await until(() => signal !== undefined)
  await pool.query(
    `UPDATE dualstore.followers SET leader = 'b', term = term + 1, lease_until = now() + interval '1 minute'`,
  )
  await until(() => signal?.aborted === true)
})

test('a lease never holds the log back', async () => {
  const { pool } = await testDatabase()
  const follower = createLeased({
    id: 'work',
    instance: 'a',
    pool,
    log: quiet,
    pollMs: 20,
    work: async () => {},
  })
  follower.run()
  await until(async () => (await readFollowers(pool)).length === 1)
  expect((await readFollowers(pool))[0]).toMatchObject({ id: 'work', position: Number.MAX_SAFE_INTEGER })
  await follower.stop()
})

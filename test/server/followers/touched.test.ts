import { expect, test } from 'vitest'
import { createHints } from '../../../src/server/changes/hints.js'
import type { Log } from '../../../src/server/followers/contract.js'
import { createTouchedFollower } from '../../../src/server/followers/touched.js'
import { ensureShipped } from '../../../src/server/services/collections.js'
import { testDatabase } from '../../support/database.js'
import { until } from '../../support/follower.js'
import { atEndOfFile } from '../../support/leaks.js'

const quiet: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }

test('it tells whatever is written by whomever, and when it may have missed something', async () => {
  const { pool } = await testDatabase()
  await ensureShipped(pool)
  const touched: string[] = []
  let lost = 0
  const follower = createTouchedFollower({
    pool,
    hints: createHints(pool),
    log: quiet,
    pollMs: 20,
    listener: {
      touched: ({ collections, ids }) =>
        void touched.push(...ids.map((id, index) => `${collections[index]}/${id}`)),
      lost: () => void lost++,
    },
  })
  const insert = (prefix: string, count: number) =>
    pool.query(
      `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
       SELECT 'agent_tasks', $1 || n, jsonb_build_object('id', $1 || n), 0, 0 FROM generate_series(1, $2::int) n`,
      [prefix, count],
    )
  await insert('before', 1)
  expect(follower.currentAt).toBe(Number.NEGATIVE_INFINITY)
  follower.run()
  atEndOfFile(() => follower.stop())
  await until(() => follower.currentAt > 0)
  expect([lost, touched]).toEqual([1, []])

  // More than one reading takes.
  await insert('a', 10_001)
  await until(() => touched.length === 10_001)
  expect(new Set(touched).size).toBe(10_001)
  expect(touched[0]).toBe('agent_tasks/a1')
  await pool.query(`DELETE FROM dualstore.documents WHERE id = 'a5'`)
  await until(() => touched.length === 10_002)
  expect(touched.at(-1)).toBe('agent_tasks/a5')

  // Being current is told of a moment before the reading, and again with each.
  const written = performance.now()
  await until(() => follower.currentAt > written)

  // Another log, as a restore makes one; and a gap in its numbers.
  await pool.query(`UPDATE dualstore.logs SET epoch = 'another1'`)
  await until(() => lost === 2)
  await pool.query(`SELECT setval('dualstore.changes_seq', 5000000)`)
  await insert('b', 1)
  await until(() => touched.at(-1) === 'agent_tasks/b1')
  expect(lost).toBe(2)
})

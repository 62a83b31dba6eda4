import pg from 'pg'
import { expect, test } from 'vitest'
import { testDatabase } from '../../support/database.js'
import { bodies, call, expectError } from '../../support/http.js'
import { atEndOfFile } from '../../support/leaks.js'
import { testServer } from '../../support/server.js'

const MESSAGES = '/api/v1/session_messages'
/** Statements that are under way at once. */
const LANES = 2
const HELD = `SELECT count(*)::int AS count FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`

test('with no room for a write, the next is refused before its body is read; reads and what waits go on', async () => {
  const { url: databaseUrl } = await testDatabase()
  const app = await testServer('embedded', { databaseUrl, maxWaitingWrites: 1, dualWriteEnabled: false })
  const holder = new pg.Client({ connectionString: databaseUrl })
  await holder.connect()
  atEndOfFile(() => holder.end())
  await holder.query('BEGIN; SELECT dualstore.lock_log()')

  const body = bodies.session_messages as object
  const held = async () => (await holder.query(HELD)).rows[0].count as number
  const waiting: ReturnType<typeof call>[] = []
  for (let statement = 1; statement <= LANES; statement++) {
    waiting.push(call(app, 'POST', MESSAGES, { body }))
    await expect.poll(held).toBe(statement)
  }
  waiting.push(call(app, 'POST', MESSAGES, { body }))
  // Its body is no JSON: whoever reads it says so.
  const headers = { 'content-type': 'application/json' }
  const refusal = async () => (await call(app, 'POST', MESSAGES, { body: '{', headers })).json.code
  await expect.poll(refusal).toBe('OVERLOADED')
  for (const [method, url] of [
    ['POST', `${MESSAGES}/batch`],
    ['PUT', `${MESSAGES}/a`],
    ['PATCH', `${MESSAGES}/a`],
    ['DELETE', `${MESSAGES}/a`],
  ] as const) {
    const refused = await call(app, method, url)
    expectError(refused, 503, 'OVERLOADED')
    expect(refused.headers['retry-after']).toBe('1')
  }
  expect((await call(app, 'GET', MESSAGES)).json.pagination.total).toBe(0)

  await holder.query('ROLLBACK')
  for (const answer of await Promise.all(waiting)) expect(answer.status, answer.text).toBe(201)
  expect((await call(app, 'GET', MESSAGES)).json.pagination.total).toBe(LANES + 1)
})

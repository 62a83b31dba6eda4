import { expect, test } from 'vitest'
import { testDatabase } from '../../support/database.js'
import { holdWrites } from '../../support/hold.js'
import { bodies, call, expectError } from '../../support/http.js'
import { atEndOfFile } from '../../support/leaks.js'
import { testServer } from '../../support/server.js'

const MESSAGES = '/api/v1/session_messages'
/** Statements that are under way at once. */
const LANES = 2

test('with no room for a write, the next is refused before its body is read; reads and what waits go on', async () => {
  const { url: databaseUrl } = await testDatabase()
  const app = await testServer('embedded', { databaseUrl, maxWaitingWrites: 1, dualWriteEnabled: false })
  const hold = await holdWrites(databaseUrl)
  atEndOfFile(hold.letGo)

  const body = bodies.session_messages as object
  const waiting: ReturnType<typeof call>[] = []
  for (let statement = 1; statement <= LANES; statement++) {
    waiting.push(call(app, 'POST', MESSAGES, { body }))
    await expect.poll(hold.waiting).toBe(statement)
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

  await hold.letGo()
  for (const answer of await Promise.all(waiting)) expect(answer.status, answer.text).toBe(201)
  expect((await call(app, 'GET', MESSAGES)).json.pagination.total).toBe(LANES + 1)
})

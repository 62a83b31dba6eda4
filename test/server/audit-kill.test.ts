import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { JobAnswer } from '../../src/server/schemas/jobs.js'
import { createDatabase, type TestDatabase } from '../support/database.js'
import { dataDirectory } from '../support/directory.js'
import { caughtUp, insertMessages, messages, until } from '../support/follower.js'
import { embeddedRaws } from '../support/plant.js'
import type { Program } from '../support/process.js'
import { startServer } from '../support/serve.js'

let database: TestDatabase
let server: Program | undefined
beforeEach(async () => {
  database = await createDatabase()
})
afterEach(async () => {
  await server?.kill9()
  await database.close()
})

const ask = async <T>(path: string, body?: object): Promise<T> => {
  const answer = await fetch(`${server?.url}/api/v1/dualstore/${path}`, {
    headers: { connection: 'close', ...(body && { 'content-type': 'application/json' }) },
    ...(body && { method: 'POST', body: JSON.stringify(body) }),
  })
  const text = await answer.text()
  expect(answer.ok, text).toBe(true)
  return (text.startsWith('{"success"') ? JSON.parse(text).data : text) as T
}

test('a verification whose server is killed with -9 goes on in the next one, with what it had found', async () => {
  const dataDir = await dataDirectory()
  const env = { DATABASE_URL: database.url, DUALSTORE_DATA_DIR: dataDir }
  server = await startServer(env)
  const ids = Array.from({ length: 3000 }, (_, index) => `m${10_000 + index}`)
  await insertMessages(database.pool, ids)
  await caughtUp(database.pool)
  await server.stop()
  const removed = ['m10000', 'm11500', 'm12999']
  await embeddedRaws(join(dataDir, 'mirror'), messages).remove(removed)

  server = await startServer(env)
  const options = { collections: ['session_messages'], rate: 600 }
  const { id } = await ask<JobAnswer>('verify', options)
  const job = () => ask<JobAnswer>(`jobs/${id}`)
  await until(async () => ((await job()).progress?.documents ?? 0) >= 600)
  await server.kill9()

  server = await startServer(env)
  const left = await job()
  expect(left).toMatchObject({ state: 'running', progress: { found: 1 } })
  expect(left.progress?.documents).toBeLessThan(3000)
  await until(async () => (await job()).finished_at !== null, 25_000)
  expect(await job()).toMatchObject({
    state: 'done',
    started_at: left.started_at,
    result: { agree: false, documents: 3000, missing: 3, extra: 0, different: 0 },
  })
  const found = (await ask<string>(`jobs/${id}/differences`)).trim().split('\n')
  expect(found.map((line) => JSON.parse(line).id)).toEqual(removed)
}, 60_000)

import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { type AddressInfo, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { beforeAll, expect, test } from 'vitest'
import { loadConfig } from '../../src/server/config/index.js'
import { createApp, createLogger } from '../../src/server/start.js'
import { testDatabase } from '../support/database.js'
import { bodies, call } from '../support/http.js'
import { atEndOfFile } from '../support/leaks.js'

const TOKEN = 'the-legacy-token-of-this-test'
const COOKIE = 'the-cookie-of-this-test'
/** Stands in every body and in nothing else. */
const BODY = 'the-stored-text-of-this-test'
const TASKS = '/api/v1/agent_tasks'
const headers = { authorization: `Bearer ${TOKEN}`, cookie: `session=${COOKIE}` }
const task = { ...bodies.agent_tasks, input_data: { text: BODY } }

let app: FastifyInstance
let pool: Awaited<ReturnType<typeof testDatabase>>['pool']
let text = ''
let key: string
let port: number

beforeAll(async () => {
  const database = await testDatabase()
  pool = database.pool
  const dataDir = await mkdtemp(join(tmpdir(), 'dualstore-test-'))
  const { config } = loadConfig({
    given: {
      databaseUrl: database.url,
      dataDir,
      authBearerToken: TOKEN,
      logLevel: 'trace',
      bodyIdleTimeoutMs: 300,
    },
  })
  const stream = new Writable({
    write: (chunk, _encoding, done) => {
      text += String(chunk)
      done()
    },
  })
  app = await createApp(config, createLogger(config, stream))
  await app.listen({ host: '127.0.0.1', port: 0 })
  port = (app.server.address() as AddressInfo).port
  atEndOfFile(async () => {
    await app.close()
    await rm(dataDir, { recursive: true, force: true })
  })
  const made = await call(app, 'POST', '/api/v1/keys', { headers, body: { name: 'logged', role: 'writer' } })
  key = made.json.data.key
})

/** Lines of the log so far; nothing that is secret or stored may stand in them. */
function lines(): Record<string, unknown>[] {
  for (const secret of [TOKEN, COOKIE, key, key.split('_')[2] ?? key, BODY])
    expect(text).not.toContain(secret)
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
}

test('requests of every kind leave no secret and no body in any line at any level', async () => {
  const bearers = [headers, { authorization: `Bearer ${key}` }, { 'x-api-key': key }, { authorization: key }]
  for (const given of bearers) {
    for (const [method, url, body] of [
      ['POST', TASKS, task],
      ['POST', TASKS, { ...task, status: BODY }],
      ['POST', TASKS, `{"text":"${BODY}"`],
      ['POST', TASKS, `${BODY}`],
      ['PUT', `${TASKS}/logged`, task],
      ['PATCH', `${TASKS}/logged`, { status: BODY }],
      ['PATCH', `${TASKS}/nothing`, { a: BODY }],
      ['POST', `${TASKS}/batch`, { operations: [{ op: 'create', item: { a: BODY } }] }],
      ['POST', `${TASKS}/batch`, { operations: [{ op: BODY }] }],
      [
        'POST',
        '/api/v1/collections',
        { name: BODY, schema: { type: 'object', title: BODY, required: BODY } },
      ],
      ['POST', '/api/v1/keys', { name: BODY, role: BODY }],
      ['POST', `/nothing`, { a: BODY }],
      ['DELETE', `${TASKS}/logged`, undefined],
    ] as const)
      await call(app, method, url, { headers: given, ...(body !== undefined && { body }) })
    const ndjson = { ...given, 'content-type': 'application/x-ndjson' }
    await call(app, 'POST', `${TASKS}/import`, {
      headers: ndjson,
      body: `${JSON.stringify(task)}\n{"${BODY}\n`,
    })
  }
  const logged = lines()
  expect(logged.filter((line) => line.msg === 'request').length).toBeGreaterThan(40)
})

test('a key in a path or a query is masked', async () => {
  for (const url of [`${TASKS}/${key}`, `${TASKS}?session_id=${key}`, `/${key}`, `/api/v1/keys/${key}`])
    await call(app, 'GET', url, { headers })
  expect(lines().filter((line) => JSON.stringify(line).includes('dsk_')).length).toBeGreaterThan(0)
})

test('an error of the store is logged without the row it is about', async () => {
  await pool.query(`
    CREATE FUNCTION refuse_row() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN RAISE 'refused' USING DETAIL = NEW.item::text, ERRCODE = 'XX001', CONSTRAINT = 'refusing'; END $$;
    CREATE TRIGGER refuse_row BEFORE INSERT ON dualstore.documents FOR EACH ROW EXECUTE FUNCTION refuse_row()`)
  const answer = await call(app, 'POST', TASKS, { headers, body: task })
  expect(answer.status).toBe(500)
  await pool.query('DROP TRIGGER refuse_row ON dualstore.documents; DROP FUNCTION refuse_row')
  const [logged] = lines().filter((line) => Number(line.level) >= 50)
  // Enough to find out what went wrong.
  expect(logged?.err).toMatchObject({
    message: 'refused',
    code: 'XX001',
    constraint: 'refusing',
    stack: expect.any(String),
  })
  expect(answer.text).not.toContain(BODY)
})

test('what is no HTTP, or stops in the middle, is not copied into the log', async () => {
  for (const sent of [
    `${BODY} ${TOKEN}\r\n\r\n`,
    `GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${TOKEN}\r\n${BODY}\r\n\r\n`,
    `POST ${TASKS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${TOKEN}\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{"a":"${BODY}`,
  ]) {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => {})
    socket.resume()
    socket.write(sent)
    await once(socket, 'close')
  }
  expect(lines().length).toBeGreaterThan(0)
})

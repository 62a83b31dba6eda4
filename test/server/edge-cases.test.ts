import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import pino from 'pino'
import { expect, test } from 'vitest'
import { loadConfig } from '../../src/server/config/index.js'
import { openContext } from '../../src/server/context.js'
import { createServer, start } from '../../src/server/index.js'
import { testDatabase } from '../support/database.js'
import { dataDirectory } from '../support/directory.js'
import { bodies, call, create } from '../support/http.js'
import { testServer } from '../support/server.js'

test('a strict write of a document that the mirror parks is not acknowledged as mirrored, and stays', async () => {
  const app = await testServer('mongodb')
  const body = {
    ...bodies.session_messages,
    id: 'huge',
    metadata: { 'a.b': 1, long: 'x'.repeat(9 * 1024 * 1024) },
  }
  const headers = { 'x-dualstore-consistency': 'strict' }
  const answer = await call(app, 'POST', '/api/v1/session_messages', { headers, body })
  expect(answer.status).toBe(504)
  expect(answer.json).toMatchObject({ code: 'WAIT_TIMEOUT', position: expect.stringMatching(/^\w{8}-\d+$/) })
  expect((await call(app, 'GET', '/api/v1/session_messages/huge')).status).toBe(200)
  expect((await call(app, 'GET', '/health/ready')).json.checks.mirror).toMatchObject({ parked: 1 })
})

test('a server starts again whatever was made of the names of shipped collections', async () => {
  const { url } = await testDatabase()
  const dataDir = await dataDirectory()
  const options = { databaseUrl: url, dataDir, logLevel: 'silent' }
  const first = await createServer(options)
  const moved = { mirror: { collection: 'elsewhere' } }
  expect((await call(first, 'PATCH', '/api/v1/collections/agent_tasks', { body: moved })).status).toBe(200)
  const taken = { name: 'other', schema: {}, mirror: { collection: 'agent_tasks' } }
  expect((await call(first, 'POST', '/api/v1/collections', { body: taken })).status).toBe(201)
  await first.close()
  const second = await createServer(options)
  expect((await call(second, 'GET', '/api/v1/agent_tasks')).status).toBe(200)
  await second.close()
})

test('replacing a definition keeps what the request leaves out', async () => {
  const app = await testServer()
  await create(app, 'agent_tasks', bodies.agent_tasks as object)
  const before = (await call(app, 'GET', '/api/v1/collections/agent_tasks')).json.data
  const { name, schema } = before
  const replaced = await call(app, 'PUT', '/api/v1/collections/agent_tasks', { body: { name, schema } })
  expect(replaced.status).toBe(200)
  const { label, id_prefix, mirror } = before
  expect(replaced.json.data.collection).toMatchObject({ label, id_prefix, mirror })
})

test('an idempotency key does not outlive its collection', async () => {
  const app = await testServer()
  const definition = { name: 'notes', schema: {} }
  const headers = { 'idempotency-key': 'k' }
  const ids: string[] = []
  for (let round = 0; round < 2; round++) {
    expect((await call(app, 'POST', '/api/v1/collections', { body: definition })).status).toBe(201)
    const made = await call(app, 'POST', '/api/v1/notes', { headers, body: { title: 'a' } })
    expect((await call(app, 'GET', `/api/v1/notes/${made.json.data.id}`)).status).toBe(200)
    ids.push(made.json.data.id)
    await call(app, 'DELETE', '/api/v1/collections/notes?confirm=notes')
  }
  expect(new Set(ids).size).toBe(2)
})

test('DELETE takes a JSON content type without a body, and HEAD does not export', async () => {
  const app = await testServer()
  const { id } = await create(app, 'session_messages', bodies.session_messages as object)
  const headers = { 'content-type': 'application/json' }
  const deleted = await call(app, 'DELETE', `/api/v1/session_messages/${id}`, { headers })
  expect(deleted.status).toBe(200)
  // "export" is then no document's id either.
  expect((await call(app, 'HEAD', '/api/v1/session_messages/export')).status).toBe(400)
})

test('closing what start() gave leaves the process alone, and requests meanwhile get the usual error', async () => {
  const { url: databaseUrl } = await testDatabase()
  const dataDir = await dataDirectory()
  const server = await start({ databaseUrl, dataDir, logLevel: 'silent', port: 0 })
  const { port } = new URL(server.url)
  const connect = async (): Promise<{ socket: Socket; heard: () => string }> => {
    const socket = createConnection(Number(port), '127.0.0.1').setEncoding('utf8')
    let heard = ''
    socket.on('data', (text) => {
      heard += text
    })
    await once(socket, 'connect')
    return { socket, heard: () => heard }
  }
  // One request whose body is under way, and one that is not far enough to be seen yet, when the server is closed.
  const early = await connect()
  const body = JSON.stringify(bodies.session_messages)
  const underWay = once(server.app.server, 'request')
  early.socket.write(
    `POST /api/v1/session_messages HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n`,
  )
  await underWay
  const accepted = once(server.app.server, 'connection')
  const late = await connect()
  const [ofServer] = await accepted
  const begun = once(ofServer, 'data')
  late.socket.write('GET /api/v1/session_messages HTTP/1.1\r\n')
  await begun
  const closed = server.close()
  while (server.app.server.listening) await new Promise(setImmediate)
  late.socket.write('host: x\r\n\r\n')
  early.socket.write(body)
  await Promise.all([closed, once(early.socket, 'close'), once(late.socket, 'close')])
  expect(early.heard()).toContain('HTTP/1.1 201')
  expect(late.heard()).toContain('HTTP/1.1 503')
  expect(late.heard()).toContain('"code":"SHUTTING_DOWN"')
})

test('a command that only looks does not migrate a database that is not its own', async () => {
  const { url: databaseUrl, pool } = await testDatabase({ migrated: false })
  const { config } = loadConfig({ given: { databaseUrl, dataDir: await dataDirectory() } })
  const log = pino({ level: 'silent' })
  await expect(openContext(config, log, { migrate: 'embedded' })).rejects.toMatchObject({
    code: 'SCHEMA_OUTDATED',
  })
  expect((await pool.query(`SELECT FROM pg_namespace WHERE nspname = 'dualstore'`)).rowCount).toBe(0)
  await (await openContext(config, log)).close()
  await (await openContext(config, log, { migrate: 'embedded' })).close()
})

test('a definition has a bound, because every instance keeps all of them compiled', async () => {
  const app = await testServer()
  const schema = { description: 'x'.repeat(70_000) }
  const answer = await call(app, 'POST', '/api/v1/collections', { body: { name: 'large', schema } })
  expect(answer.status).toBe(400)
  expect(answer.json).toMatchObject({ code: 'INVALID_DEFINITION', details: [{ field: 'definition' }] })
})

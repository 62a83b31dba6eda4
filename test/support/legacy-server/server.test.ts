import { MongoClient } from 'mongodb'
import { describe, expect, test } from 'vitest'
import { openStream } from '../event-stream.js'
import { bodies } from '../http.js'
import { atEndOfFile } from '../leaks.js'
import { mongoIsAvailable, testMongo } from '../mongo.js'
import { startLegacyServer } from './start.js'

// Tests of tests: the stand-in must be as broken as what it stands for (legacy contract, section 9).

const mongo = (await mongoIsAvailable()) ? await testMongo() : undefined
if (mongo !== undefined) atEndOfFile(mongo.close)

describe.runIf(mongo).each(['a', 'b'] as const)('the stand-in for variant %s', async (variant) => {
  if (mongo === undefined) return
  const { uri, database } = mongo
  const server = await startLegacyServer({
    variant,
    mongodbUri: uri,
    database,
    env: {
      AGENT_NAME: variant,
      AUTH_ENABLED: 'false',
      AUTH_BEARER_TOKEN: 'secret',
      SSE_HEARTBEAT_INTERVAL: '50',
    },
  })
  const client = new MongoClient(uri)
  const stored = client.db(database).collection(`${variant}_agent_tasks`)
  atEndOfFile(async () => {
    await server.stop()
    await client.close()
  })
  const headers = { authorization: 'Bearer secret', connection: 'close' }
  const ask = async (path: string, init: RequestInit = {}) => {
    const answer = await fetch(server.url + path, { ...init, headers: { ...headers, ...init.headers } })
    // biome-ignore lint/suspicious/noExplicitAny: the body of any route
    const json = (await answer.json()) as any
    return { status: answer.status, headers: answer.headers, json }
  }
  const post = (body: unknown) =>
    ask('/api/v1/agent_tasks', {
      method: 'POST',
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json' },
    })

  test('an update is a second document, and reads give the oldest; a delete deletes nothing (1, 5)', async () => {
    const { status, json } = await post({ ...bodies.agent_tasks, input_data: { a: 1 } })
    expect([status, json.data.input_data]).toEqual([201, {}])
    const { id } = json.data
    await server.update('agent_tasks', id, { status: 'completed' })
    await server.delete('agent_tasks', id)
    const documents = await stored.find({ id }).toArray()
    expect(documents.map(({ metadata }) => metadata.status)).toEqual(['pending', 'completed'])
    expect(documents[0]?.metadata.inputData).toEqual({ a: 1 })
    expect((await ask(`/api/v1/agent_tasks/${id}`)).json.data).toMatchObject({ id, status: 'pending' })
  })

  test('ids of lists answer 404, and a client-sent id is answered and not stored (2, 6)', async () => {
    const { json } = await post({ ...bodies.agent_tasks, id: 'mine' })
    expect(json.data.id).toBe('mine')
    const [item] = (await ask('/api/v1/agent_tasks?limit=1')).json.data
    for (const id of ['mine', item.id]) {
      const answer = await ask(`/api/v1/agent_tasks/${id}`)
      expect(answer.json).toEqual({ success: false, error: 'Agent task not found' })
    }
  })

  test('bad requests are 500, and * goes together with credentials (5, 8)', async () => {
    for (const answer of [await ask('/api/v1/agent_tasks?limit=0'), await post({}), await post('{')]) {
      expect([answer.status, answer.json]).toEqual([500, { success: false, error: 'Internal server error' }])
      expect(answer.headers.get('access-control-allow-origin')).toBe('*')
      expect(answer.headers.get('access-control-allow-credentials')).toBe('true')
    }
  })

  test('streams connect and beat, and tell of no change', async () => {
    const stream = await openStream(`${server.url}/api/v1/stream/agent_tasks`, headers)
    await post(bodies.agent_tasks)
    const isHeartbeat = ({ event, data }: { event: string | undefined; data: { type?: string } }) =>
      (variant === 'a' ? event : data.type) === 'heartbeat'
    await stream.until(isHeartbeat)
    const kinds = stream.events.map(({ event, data }) => event ?? data.type)
    expect(new Set(kinds)).toEqual(new Set(['connection', 'heartbeat']))
    stream.close()
  })

  test('variant a asks for its token even when AUTH_ENABLED is "false"; b never does (8)', async () => {
    const answer = await fetch(`${server.url}/health`, { headers: { connection: 'close' } })
    if (variant === 'b') expect(answer.status).toBe(200)
    else
      expect([answer.status, await answer.json()]).toEqual([401, { error: 'missing authorization header' }])
    await answer.arrayBuffer().catch(() => {})
  })
})

test.runIf(mongo)('a stream of variant a fails when its head is written twice (7)', async () => {
  const { uri = '', database = '' } = mongo ?? {}
  const env = { STREAM_HEAD_TWICE: 'true' }
  const server = await startLegacyServer({ variant: 'a', mongodbUri: uri, database, env })
  const stream = fetch(`${server.url}/api/v1/stream/agent_tasks`).then((answer) => answer.text())
  await expect(stream).rejects.toThrow()
  await server.stop()
})

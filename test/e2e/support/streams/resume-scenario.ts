import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import type { Pool } from '../../../../src/server/db/pool.js'
import type { TestDatabase } from '../../../support/database.js'
import type { Program } from '../../../support/process.js'
import { startProxy } from '../../../support/proxy.js'
import { startServer } from '../../../support/serve.js'
import { task } from '../../../support/tasks.js'

/** An event of a stream as a client library hands it on. */
export interface Received {
  /** The name it was listened to by; "message" without one. */
  event: string
  /** The last event id that the library would come back with. */
  id: string
  data: string
}

/** A client library that follows a stream and comes back by itself. */
export interface Follower {
  /** Everything received so far, control events too. */
  received(): Promise<Received[]>
  close(): Promise<void>
}

export interface Scenario {
  database: TestDatabase
  /** Follows a URL; its events are named unless the path says format=message. */
  follow(url: string): Promise<Follower>
  path?: string
}

const WAIT_MS = 20_000
const CHANGES = new Set(['insert', 'update', 'delete'])

/**
 * Lets a client follow while its connection is cut, and while its server is killed and started again on the same
 * port, with writes before, in between and after; expects that it was told exactly what the log holds.
 */
export async function expectToResume({ database, follow, path = '/api/v1/stream' }: Scenario): Promise<void> {
  const env = { DATABASE_URL: database.url, DUAL_WRITE_ENABLED: 'false' }
  let server = await startServer(env)
  const proxy = await startProxy(server.url)
  const follower = await follow(`http://127.0.0.1:${proxy.port}${path}`)
  try {
    const start = positionOf(await first(follower, 'ready'))
    await write(server, 'before')
    await until(follower, (count) => count === 12)

    proxy.cut()
    await write(server, 'while it is cut')
    proxy.restore()
    await until(follower, (count) => count === 24)
    await write(server, 'behind the cut')

    await server.kill9()
    await writeSql(database.pool)
    server = await startServer(env, { flags: ['--port', new URL(server.url).port] })
    await write(server, 'behind the kill')

    const log = await logBehind(database.pool, start)
    expect(log).toHaveLength(52)
    await until(follower, (count) => count >= log.length)
    // One more, so that something repeated at the end would be seen.
    await write(server, 'at the end')
    await until(follower, (count) => count >= log.length + 12)
    expect(changes(await follower.received())).toEqual(await logBehind(database.pool, start))
  } finally {
    await follower.close()
    await proxy.close()
    await server.kill9()
  }
}

interface Change {
  event: string
  id: string
  item: unknown
}

/** The changes among what was received, with the id that stood beside each. */
function changes(received: readonly Received[]): Change[] {
  return received.flatMap(({ event, id, data }) => {
    const {
      type,
      data: item,
      position,
    } = JSON.parse(data) as { type: string; data: unknown; position: string }
    if (!CHANGES.has(type)) return []
    expect(event === 'message' || event === type).toBe(true)
    expect(id).toBe(position)
    return [{ event: type, id, item }]
  })
}

async function logBehind(pool: Pool, position: string): Promise<Change[]> {
  const [epoch, start] = position.split('-')
  const { rows } = await pool.query<{ event: string; seq: number; item: unknown }>(
    'SELECT op AS event, seq, item FROM dualstore.changes WHERE seq > $1 ORDER BY seq',
    [start],
  )
  return rows.map(({ event, seq, item }) => ({ event, id: `${epoch}-${seq}`, item }))
}

async function first(follower: Follower, type: string): Promise<string> {
  let found: string | undefined
  const look = async () => {
    found = (await follower.received()).map(({ data }) => data).find((data) => JSON.parse(data).type === type)
    return found !== undefined
  }
  await waitFor(look, () => `no ${type} came`)
  return found ?? ''
}

const positionOf = (data: string): string =>
  (JSON.parse(data) as { data: { position: string } }).data.position

async function until(follower: Follower, enough: (changes: number) => boolean): Promise<void> {
  let count = 0
  const look = async () => {
    count = changes(await follower.received()).length
    return enough(count)
  }
  await waitFor(look, () => `${count} changes have come`)
}

async function waitFor(condition: () => Promise<boolean>, otherwise: () => string): Promise<void> {
  const deadline = Date.now() + WAIT_MS
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(otherwise())
    await delay(25)
  }
}

/** Four documents made, changed and deleted: twelve changes. */
async function write({ url }: Program, label: string): Promise<void> {
  for (let index = 0; index < 4; index++) {
    const id = encodeURIComponent(`${label} ${index}`)
    const at = `${url}/api/v1/agent_tasks`
    await send(at, 'POST', { ...task, id: `${label} ${index}`, error_message: 'line\nend 😀' })
    await send(`${at}/${id}`, 'PATCH', { status: 'completed' })
    await send(`${at}/${id}`, 'DELETE')
  }
}

async function send(url: string, method: string, body?: object): Promise<void> {
  const answer = await fetch(url, {
    method,
    headers: { connection: 'close', ...(body && { 'content-type': 'application/json' }) },
    ...(body && { body: JSON.stringify(body) }),
  })
  if (!answer.ok) throw new Error(`${method} ${url}: ${answer.status} ${await answer.text()}`)
  await answer.arrayBuffer()
}

/** Four documents behind the server's back, while it is gone. */
async function writeSql(pool: Pool): Promise<void> {
  await pool.query(
    `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
     SELECT 'agent_tasks', 'sql ' || n, jsonb_build_object('id', 'sql ' || n), 0, 0 FROM generate_series(1, 4) n`,
  )
}

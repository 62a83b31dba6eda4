import type { FastifyInstance, InjectOptions } from 'fastify'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Pool } from '../../src/server/db/pool.js'
import { corpus, INJECTED } from '../support/corpus.js'
import { testDatabase } from '../support/database.js'
import { call } from '../support/http.js'
import { type Input, inputsOf, requestWith, STANDING } from '../support/inputs.js'
import { testServer } from '../support/server.js'

/** `npm run test:corpora` tries every string in every input; otherwise each input gets its turn of each kind. */
const whole = process.env.CORPUS === 'whole'
const AT_ONCE = 8
/** A string that takes longer than this has found something that is not linear, or a pg_sleep. */
const SLOW_MS = 10_000
const headers = { authorization: 'Bearer corpora-token' }

let app: FastifyInstance
let pool: Pool
let inputs: Input[]
const collections = ['corpus', 'targets']

beforeAll(async () => {
  const database = await testDatabase()
  pool = database.pool
  app = await testServer('embedded', {
    databaseUrl: database.url,
    authBearerToken: 'corpora-token',
    authAttemptsPerMinute: 0,
  })
  const schema = { type: 'object', properties: { text: { type: 'string' }, deep: { type: 'object' } } }
  for (const name of collections) {
    const body = { name, schema, indexes: [{ fields: ['text'] }, { type: 'text' }] }
    expect((await call(app, 'POST', '/api/v1/collections', { headers, body })).status).toBe(201)
  }
  for (const name of ['corpus', 'session_messages', 'agent_tasks']) {
    const item = {
      text: 'x',
      session_id: 's',
      role: 'user',
      content: 'c',
      agent_id: 'a',
      task_type: 't',
      status: 'pending',
    }
    const made = await call(app, 'PUT', `/api/v1/${name}/${STANDING}`, { headers, body: item })
    expect(made.status, made.text).toBe(201)
  }
  inputs = inputsOf((await call(app, 'GET', '/docs/json', { headers })).json, collections)
})

let before: unknown
beforeAll(async () => {
  before = await database()
})
afterAll(() => {
  expect(({} as Record<string, unknown>).polluted).toBeUndefined()
})

test('every operation of the document has inputs here', () => {
  expect(new Set(inputs.map((input) => input.operation)).size).toBeGreaterThan(25)
  expect(inputs.length).toBeGreaterThan(120)
  for (const place of ['path', 'query', 'header', 'body'])
    expect(inputs.map((input) => input.place)).toContain(place)
})

test('no string in any input reaches further than its place', { timeout: 3_600_000 }, async () => {
  const kinds = Object.entries(corpus)
  const tried: Record<string, number> = Object.fromEntries(kinds.map(([kind]) => [kind, 0]))
  const statuses: Record<number, number> = {}
  const work = inputs.flatMap((input, index) =>
    kinds.flatMap(([kind, strings]) =>
      turn(strings, index).map((text) => async () => {
        tried[kind] = (tried[kind] ?? 0) + 1
        const status = await attempt(input, text)
        statuses[status] = (statuses[status] ?? 0) + 1
      }),
    ),
  )
  await atOnce(work)
  const strings = kinds.reduce((sum, [, list]) => sum + list.length, 0)
  console.info(
    `${work.length} requests with ${strings} strings in ${inputs.length} inputs: ${JSON.stringify(tried)}, ` +
      `answered ${JSON.stringify(statuses)}`,
  )
  // Each string was tried somewhere, and some of them are stored: not everything is refused at the door.
  for (const [kind, list] of kinds) expect(tried[kind]).toBeGreaterThanOrEqual(list.length * 2)
  expect(statuses[201]).toBeGreaterThan(20)
  expect(statuses[400]).toBeGreaterThan(200)

  await dropMade()
  expect(await database()).toEqual(before)
})

/** The strings of a kind that come up for an input. */
function turn(strings: readonly string[], index: number): readonly string[] {
  if (whole) return strings
  // Each string comes up at least twice.
  const count = Math.ceil((strings.length * 2) / inputs.length)
  return Array.from(
    { length: count },
    (_, step) => strings[(index * count + step) % strings.length] as string,
  )
}

async function attempt(input: Input, text: string): Promise<number> {
  const started = performance.now()
  const request: InjectOptions = requestWith(input, text)
  const answer = await app.inject({ ...request, headers: { ...headers, ...request.headers } })
  const shown = `${input.operation} ${input.place} ${input.name} ${JSON.stringify(text)}: ${answer.body.slice(0, 500)}`
  expect(answer.statusCode, shown).toBeLessThan(500)
  expect(performance.now() - started, shown).toBeLessThan(SLOW_MS)
  expect(answer.headers['set-cookie'], shown).toBeUndefined()
  expect(answer.headers[INJECTED], shown).toBeUndefined()
  expect(answer.body, shown).not.toMatch(/root:.*:0:0:|PostgreSQL \d+\.\d+ on /)
  if (answer.statusCode >= 400) {
    expect(answer.json(), shown).toMatchObject({ success: false, code: expect.any(String) })
  }
  // What is taken is data: it comes back as it was sent.
  if (answer.statusCode === 201 && input.operation === 'create' && input.name === 'text') {
    expect(answer.json().data.text, shown).toBe(text)
    const read = await call(app, 'GET', `/api/v1/corpus/${answer.json().data.id}`, { headers })
    expect(read.json.data.text, shown).toBe(text)
  }
  return answer.statusCode
}

async function atOnce(work: readonly (() => Promise<void>)[]): Promise<void> {
  let next = 0
  const worker = async () => {
    for (let job = work[next++]; job !== undefined; job = work[next++]) await job()
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
}

/** Some strings are good names of collections, "undefined" for one. */
async function dropMade(): Promise<void> {
  const known = new Set([...collections, 'session_messages', 'agent_tasks', 'opencode_events'])
  const { json } = await call(app, 'GET', '/api/v1/collections', { headers })
  for (const { name } of json.data as { name: string }[]) {
    if (known.has(name)) continue
    const dropped = await call(app, 'DELETE', `/api/v1/collections/${name}?confirm=${name}`, { headers })
    expect(dropped.status, dropped.text).toBe(200)
  }
}

/** Everything that must not change: all objects of the database, its roles, and every row but what was asked for. */
async function database(): Promise<unknown> {
  const rows = async (sql: string) => (await pool.query(sql)).rows
  return {
    // Indexes of the collection whose definition is changed come and go.
    relations: await rows(`SELECT n.nspname, c.relname, c.relkind, c.relnatts FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' AND c.relkind NOT IN ('i', 'I')
      ORDER BY 1, 2`),
    columns: await rows(`SELECT table_name, column_name, data_type FROM information_schema.columns
      WHERE table_schema = 'dualstore' ORDER BY 1, 2`),
    routines:
      await rows(`SELECT p.proname, md5(p.prosrc) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
      WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2`),
    triggers: await rows('SELECT tgname, count(*) FROM pg_trigger GROUP BY 1 ORDER BY 1'),
    roles: await rows('SELECT rolname, rolsuper FROM pg_roles ORDER BY 1'),
    settings: await rows('SELECT unnest(setconfig) FROM pg_db_role_setting ORDER BY 1'),
    documents: await rows(
      "SELECT * FROM dualstore.documents WHERE collection NOT IN ('corpus', 'targets') ORDER BY 1, 2",
    ),
    changes: await rows(
      `SELECT seq, collection, id, op, item FROM dualstore.changes WHERE seq <= ${await head()} ORDER BY seq`,
    ),
    collections: await rows(
      "SELECT name, definition FROM dualstore.collections WHERE state = 'active' AND name <> 'targets' ORDER BY 1",
    ),
  }
}

let firstHead: string | undefined
async function head(): Promise<string> {
  firstHead ??= String((await pool.query('SELECT max(seq) AS seq FROM dualstore.changes')).rows[0].seq)
  return firstHead
}

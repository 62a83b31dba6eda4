import type { FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Pool } from '../../../src/server/db/pool.js'
import { bodies, call, create, expectError, withQuery } from '../../support/http.js'
import { listeningServer } from '../../support/server.js'

const task = bodies.agent_tasks ?? {}

let app: FastifyInstance
let pool: Pool
beforeAll(async () => {
  ;({ app, pool } = await listeningServer())
})

const poll = (query: Record<string, string | number> = {}, collection = 'agent_tasks') =>
  call(app, 'GET', withQuery(`/api/v1/${collection}/changes`, query))

describe('polling', () => {
  test('without a position begins now; each answer tells where to go on', async () => {
    const { json: start } = await poll()
    expect(start).toMatchObject({ success: true, data: [], has_more: false })
    const made = []
    for (let n = 0; n < 5; n++) made.push(await create(app, 'agent_tasks', task))
    await create(app, 'session_messages', bodies.session_messages ?? {})
    const first = (await poll({ since: start.position, limit: 3 })).json
    expect(first.data.map(({ data }: { data: unknown }) => data)).toEqual(made.slice(0, 3))
    expect(first.has_more).toBe(true)
    expect(first.data[2]).toMatchObject({ type: 'insert', version: 1, position: first.position })
    const second = (await poll({ since: first.position })).json
    expect(second.data.map(({ data }: { data: unknown }) => data)).toEqual(made.slice(3))
    expect(second.has_more).toBe(false)
    // The other collection's change is behind it too: it is never looked at again.
    expect((await poll({ since: second.position })).json).toMatchObject({
      data: [],
      position: second.position,
      has_more: false,
    })
  })

  test('a filter shows who enters and who leaves', async () => {
    const { position } = (await poll()).json
    const { id } = await create(app, 'agent_tasks', task)
    for (const status of ['running', 'completed']) {
      await call(app, 'PATCH', `/api/v1/agent_tasks/${id}`, { body: { status } })
    }
    const { data } = (await poll({ since: position, filter: '{"status":"running"}' })).json
    expect(data.map((event: { type: string }) => event.type)).toEqual(['insert', 'delete'])
  })

  test('wait holds the answer until something matches', async () => {
    const { position } = (await poll()).json
    const waiting = poll({ since: position, wait: 30, filter: '{"status":"failed"}' })
    await create(app, 'agent_tasks', task)
    const failed = await create(app, 'agent_tasks', { ...task, status: 'failed' })
    const { data } = (await waiting).json
    expect(data.map((event: { data: unknown }) => event.data)).toEqual([failed])
  })

  test('wait without a change answers empty, and moves on past what did not match', async () => {
    const { position } = (await poll()).json
    await create(app, 'agent_tasks', task)
    const { json } = await poll({ since: position, wait: 0.2, filter: '{"status":"failed"}' })
    expect(json).toMatchObject({ data: [], has_more: false })
    expect(json.position).not.toBe(position)
  })

  test('documents are passed on as they are stored', async () => {
    const { position } = (await poll()).json
    await create(app, 'agent_tasks', { ...task, input_data: { text: '{"a": 1}\n\u2028', n: 1.5e300 } })
    const { text } = await poll({ since: position })
    const { rows } = await pool.query(
      'SELECT item::text AS text FROM dualstore.changes ORDER BY seq DESC LIMIT 1',
    )
    expect(text).toContain(`"data":${rows[0].text},`)
  })
})

describe('worthless positions', () => {
  test('are 410 with the reason and where to go on', async () => {
    const { position } = (await poll()).json
    const [epoch, seq] = position.split('-')
    for (const [since, reason] of [
      [`${epoch}-${Number(seq) + 1}`, 'ahead'],
      ['00000000-0', 'other_log'],
    ]) {
      const answer = await poll({ since: since ?? '' })
      expectError(answer, 410, 'POSITION_GONE')
      expect(answer.json).toMatchObject({ reason, position })
    }
  })

  test('that retention has dropped are gone, the one at its edge is not', async () => {
    await create(app, 'agent_tasks', task)
    const { position } = (await poll()).json
    const [epoch, seq] = position.split('-')
    await pool.query('DELETE FROM dualstore.changes WHERE seq < $1', [seq])
    await pool.query('UPDATE dualstore.logs SET floor = $1', [Number(seq) - 1])
    const gone = await poll({ since: `${epoch}-${Number(seq) - 2}` })
    expectError(gone, 410, 'POSITION_GONE')
    expect(gone.json).toMatchObject({ reason: 'gone', position })
    expect((await poll({ since: `${epoch}-${Number(seq) - 1}` })).json.data).toHaveLength(1)
  })

  test.each([
    [{ since: 'yesterday' }, 'since'],
    [{ limit: 0 }, 'query.limit'],
    [{ wait: 61 }, 'query.wait'],
    [{ q: 'words' }, 'query.q'],
  ])('%j is 400 and names the field', async (query, field) => {
    const answer = await poll(query as unknown as Record<string, string>)
    expectError(answer, 400)
    expect(answer.json.details[0].field).toBe(field)
  })
})

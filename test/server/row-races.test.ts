import type { FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import { createGatherer, refusedRow } from '../../src/server/services/gatherer.js'
import { createWriter } from '../../src/server/services/writer.js'
import { type Write, writeDocuments } from '../../src/server/store/documents.js'
import { testDatabase } from '../support/database.js'
import { bodies, call } from '../support/http.js'
import { as, principalOf, withPrincipals } from '../support/principals.js'
import { testServer } from '../support/server.js'

const rights = { id: 'key:me', rows: { session_id: 'mine' } }

describe('a document that becomes another one between the look and the write', () => {
  const text = (id: string, session_id: string) =>
    JSON.stringify({
      id,
      created_at: '2026-01-01T00:00:00.000Z',
      updated_at: '2026-01-01T00:00:00.000Z',
      session_id,
    })
  const writeOf = (mode: Write['mode'], id: string, session_id: string): Write => ({
    mode,
    collection: 'notes',
    id,
    text: mode === 'delete' ? 'null' : text(id, session_id),
    ifVersion: null,
    createdAt: 1,
    updatedAt: 1,
    idempotency: null,
  })

  /** A writer before whose first statement somebody else is let do something. */
  async function overtaken(interfere: (write: (...writes: Write[]) => Promise<unknown>) => Promise<unknown>) {
    const { pool } = await testDatabase()
    await pool.query(`SELECT dualstore.create_partition('notes')`)
    const unrestricted = (...writes: Write[]) => writeDocuments(pool, writes)
    let statements = 0
    const gatherer = createGatherer({
      async run(writes) {
        if (++statements === 1) await interfere(unrestricted)
        return writeDocuments(pool, writes)
      },
      refuse: refusedRow,
    })
    const access = { principal: principalOf(rights), address: undefined }
    const writer = createWriter({ pool, gatherer })
    const read = async (id: string) =>
      (
        await pool.query('SELECT item ->> $2 AS session_id FROM dualstore.documents WHERE id = $1', [
          id,
          'session_id',
        ])
      ).rows[0]?.session_id
    return {
      unrestricted,
      read,
      write: (write: Write) => writer.write(access, write),
      statements: () => statements,
    }
  }

  test.each(['put', 'replace', 'delete', 'load'] as const)(
    '%s leaves alone what has moved outside, also when it was deleted and made anew with the same version',
    async (mode) => {
      for (const anew of [false, true]) {
        const it = await overtaken(async (write) => {
          if (anew) await write(writeOf('delete', 'a', ''))
          await write(writeOf('put', 'a', 'other'))
        })
        await it.unrestricted(writeOf('put', 'a', 'mine'))
        const { outcome } = await it.write(writeOf(mode, 'a', 'mine'))
        expect(outcome).toBe(mode === 'put' || mode === 'load' ? 'exists' : 'missing')
        expect(await it.read('a')).toBe('other')
      }
    },
  )

  test('put takes the id that became free, and does not take one that was taken meanwhile', async () => {
    const free = await overtaken((write) => write(writeOf('delete', 'a', '')))
    await free.unrestricted(writeOf('put', 'a', 'mine'))
    expect((await free.write(writeOf('put', 'a', 'mine'))).outcome).toBe('created')
    const taken = await overtaken((write) => write(writeOf('put', 'a', 'other')))
    expect((await taken.write(writeOf('put', 'a', 'mine'))).outcome).toBe('exists')
    expect(await taken.read('a')).toBe('other')
  })

  test('it is looked at again as long as it is inside, and given up when that does not end', async () => {
    const it = await overtaken((write) => write(writeOf('put', 'a', 'mine')))
    await it.unrestricted(writeOf('put', 'a', 'mine'))
    expect(await it.write(writeOf('put', 'a', 'mine'))).toMatchObject({ outcome: 'replaced', version: 3 })
    expect(it.statements()).toBe(2)
  })
})

describe('over HTTP', () => {
  let app: FastifyInstance
  beforeAll(async () => {
    app = await testServer('embedded', {}, withPrincipals)
  })

  test('patches that move a document out and in beside writes of a key never let the key touch it outside', async () => {
    const path = '/api/v1/agent_tasks/raced'
    const mine = { ...bodies.agent_tasks, session_id: 'mine', progress: 0 }
    const other = { ...mine, session_id: 'other' }
    const headers = as(rights)
    await call(app, 'PUT', path, { body: mine })
    const { position } = (await call(app, 'GET', '/api/v1/agent_tasks/changes')).json
    const mover = async () => {
      for (let n = 0; n < 30; n++) {
        await call(app, 'PUT', path, { body: n % 2 === 0 ? other : mine })
        if (n % 10 === 9) {
          await call(app, 'DELETE', path)
          await call(app, 'PUT', path, { body: n % 20 === 9 ? other : mine })
        }
      }
    }
    const statuses = new Set<string>()
    const key = async (method: string, body?: object) => {
      for (let n = 0; n < 30; n++) {
        const answer = await call(app, method, path, { headers, ...(body && { body }) })
        statuses.add(`${method} ${answer.status}`)
        expect(answer.json.data?.session_id ?? 'mine').toBe('mine')
      }
    }
    await Promise.all([
      mover(),
      key('PATCH', { progress: 7 }),
      key('PUT', { ...mine, progress: 8 }),
      key('DELETE'),
    ])
    for (const status of statuses) {
      expect([
        'PATCH 200',
        'PATCH 404',
        'PUT 200',
        'PUT 201',
        'PUT 409',
        'DELETE 200',
        'DELETE 404',
      ]).toContain(status)
    }
    const { data } = (await call(app, 'GET', `/api/v1/agent_tasks/changes?since=${position}&limit=1000`)).json
    const authors = (await call(app, 'GET', '/api/v1/audit/documents?id=raced&limit=1000')).json.data
    const authorAt = new Map(
      authors.map((one: { position: string; author: string }) => [one.position, one.author]),
    )
    let before: { session_id: string } | undefined = mine
    let touched = 0
    for (const event of data) {
      if (authorAt.get(event.position) === 'key:me') {
        touched++
        expect(before?.session_id ?? 'mine').toBe('mine')
        expect(event.data.session_id).toBe('mine')
      }
      before = event.type === 'delete' ? undefined : event.data
    }
    expect(touched).toBeGreaterThan(0)
  })

  test('ten keys that put the same document at once all get it done', async () => {
    const headers = as(rights)
    const body = { ...bodies.agent_tasks, session_id: 'mine' }
    const put = () => call(app, 'PUT', '/api/v1/agent_tasks/busy', { headers, body })
    const statuses = (await Promise.all(Array.from({ length: 50 }, put))).map(({ status }) => status)
    expect(statuses.filter((status) => status === 201)).toHaveLength(1)
    expect(new Set(statuses)).toEqual(new Set([200, 201]))
  })
})

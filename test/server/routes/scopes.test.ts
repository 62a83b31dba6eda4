import type { FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import { bodies, call, expectError } from '../../support/http.js'
import { as, withPrincipals } from '../../support/principals.js'
import { testServer } from '../../support/server.js'

const TASKS = '/api/v1/agent_tasks'
const body = bodies.agent_tasks ?? {}
const NDJSON = { 'content-type': 'application/x-ndjson' }

let app: FastifyInstance
beforeAll(async () => {
  app = await testServer('embedded', {}, withPrincipals)
  await call(app, 'PUT', `${TASKS}/t`, { body })
})

interface Ask {
  method: string
  path: string
  body?: unknown
  headers?: Record<string, string>
}
const reads: Ask[] = [
  { method: 'GET', path: '' },
  { method: 'GET', path: '/t' },
  { method: 'HEAD', path: '/t' },
  { method: 'GET', path: '/t', headers: { 'x-dualstore-read-from': 'mirror' } },
  { method: 'GET', path: '', headers: { 'x-dualstore-read-from': 'mirror' } },
  { method: 'GET', path: '/export' },
  { method: 'GET', path: '/changes' },
]
const writes: Ask[] = [
  { method: 'POST', path: '', body },
  { method: 'PUT', path: '/t', body },
  { method: 'PATCH', path: '/t', body: { status: 'failed' } },
  { method: 'DELETE', path: '/t' },
  { method: 'POST', path: '/batch', body: { operations: [{ op: 'delete', id: 't' }] } },
  { method: 'POST', path: '/import', body: JSON.stringify(body), headers: NDJSON },
]
const ask = ({ method, path, body, headers }: Ask, rights: Record<string, string>, at = TASKS) =>
  call(app, method, `${at}${path}`, {
    headers: { ...headers, ...rights },
    ...(body !== undefined && { body }),
  })
const everything = async () => (await call(app, 'GET', `${TASKS}/export`)).text

describe.each([
  ['nothing', { read: [], write: [] }, false, false],
  ['another collection', { read: ['session_messages', 'agent'], write: ['*_messages'] }, false, false],
  ['reading', { read: ['agent_*'], write: [] }, true, false],
  ['writing', { read: [], write: ['agent_tasks'] }, false, true],
])('scopes that cover %s', (_what, scopes, mayRead, mayWrite) => {
  const rights = as(scopes)

  test.each(reads)('$method $path', async (one) => {
    const answer = await ask(one, rights)
    if (mayRead) expect(answer.status, answer.text).toBeLessThan(500)
    if (mayRead) expect(answer.status, answer.text).not.toBe(403)
    else expect(answer.status, answer.text).toBe(403)
  })

  test.each(writes)('$method $path $body', async (one) => {
    const before = await everything()
    const answer = await ask(one, rights)
    // The answer to a PATCH shows the whole document.
    const needsBoth = one.method === 'PATCH'
    if (mayWrite && !needsBoth) expect(answer.status, answer.text).not.toBe(403)
    else {
      expectError(answer, 403, 'FORBIDDEN')
      expect(await everything()).toBe(before)
    }
  })

  test('whether a collection exists is not told', async () => {
    for (const one of [...reads, ...writes]) {
      expect((await ask(one, rights, '/api/v1/nowhere')).status, `${one.method} ${one.path}`).toBe(403)
    }
  })
})

test('both together may do all of it', async () => {
  const rights = as({ read: ['agent_tasks'], write: ['agent_tasks'] })
  await call(app, 'PUT', `${TASKS}/t`, { body })
  for (const one of [...reads, ...writes]) {
    expect((await ask(one, rights)).status, `${one.method} ${one.path}`).not.toBe(403)
  }
})

test('raw documents are those of the collections that may be read', async () => {
  const { json } = await call(app, 'GET', '/debug/dualstore-data', { headers: as({ read: ['agent_*'] }) })
  expect(Object.keys(json)).toEqual(['agent_tasks'])
})

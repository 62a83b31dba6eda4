import Fastify, { type FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import { guardRoutes } from '../../src/server/plugins/rights.js'
import { hasRole, type Role } from '../../src/server/services/principal.js'
import { type Right, rightOf, rights } from '../../src/server/services/rights.js'
import { testDatabase } from '../support/database.js'
import { call, expectError, LEGACY } from '../support/http.js'
import { bearer, makeKey, withAuth } from '../support/keys.js'
import { testServer } from '../support/server.js'
import { tokenOf } from '../support/tokens.js'

/** Every kind of caller. What a valid one may do follows from these members and the table alone. */
interface Caller {
  headers: Record<string, string>
  valid?: { role: Role; read: boolean; write: boolean }
}

interface Route {
  operationId: string
  method: string
  url: string
}

let app: FastifyInstance
let callers: Record<string, Caller>
let routes: Route[]

beforeAll(async () => {
  const { url: databaseUrl, pool } = await testDatabase()
  const open = await testServer('embedded', { databaseUrl, dualWriteEnabled: false })
  const { json } = await call(open, 'POST', '/api/v1/keys', { body: { name: 'first', role: 'admin' } })
  const first = json.data.key
  app = await testServer('embedded', { databaseUrl, ...withAuth }, (instance) =>
    instance.get('/of/a/program', { schema: { hide: true } }, async () => 'what it answers'),
  )
  const key = (input: object) => makeKey(app, first, input)
  const [reader, writer, expired, revoked, elsewhere, writeOnly] = await Promise.all([
    key({ role: 'reader' }),
    key({ role: 'writer' }),
    key({ role: 'admin' }),
    key({ role: 'admin' }),
    key({ role: 'admin', scopes: { read: ['elsewhere'], write: [] } }),
    key({ role: 'admin', scopes: { read: [], write: ['*'] } }),
  ])
  await pool.query(`UPDATE dualstore.api_keys SET expires_at = now() - interval '1 second' WHERE id = $1`, [
    expired.id,
  ])
  const ofReader = await tokenOf(app, reader.key)
  const ofRevoked = await tokenOf(app, revoked.key)
  const forStream = await tokenOf(app, first, { for: 'stream', collection: 'agent_tasks' })
  const elsewhereToken = await tokenOf(app, first, {
    role: 'writer',
    read: ['elsewhere'],
    write: [],
  })
  await call(app, 'DELETE', `/api/v1/keys/${revoked.id}`, { headers: bearer(first) })
  callers = {
    'no key': { headers: {} },
    garbage: { headers: bearer('garbage') },
    'another scheme': { headers: { authorization: 'Basic dTpw' } },
    'an expired key': { headers: bearer(expired.key) },
    'a revoked key': { headers: bearer(revoked.key) },
    'a reader': { headers: bearer(reader.key), valid: { role: 'reader', read: true, write: false } },
    'a writer': { headers: bearer(writer.key), valid: { role: 'writer', read: true, write: true } },
    'an admin': { headers: bearer(first), valid: { role: 'admin', read: true, write: true } },
    'an admin who may only read another collection': {
      headers: bearer(elsewhere.key),
      valid: { role: 'admin', read: false, write: false },
    },
    'a token of a revoked key': { headers: bearer(ofRevoked) },
    'a token for a stream': { headers: bearer(forStream) },
    "a reader's token": { headers: bearer(ofReader), valid: { role: 'reader', read: true, write: false } },
    "a writer's token for another collection": {
      headers: bearer(elsewhereToken),
      valid: { role: 'writer', read: false, write: false },
    },
    'an admin who may only write': {
      headers: bearer(writeOnly.key),
      valid: { role: 'admin', read: false, write: true },
    },
  }
  const document = (await call(app, 'GET', '/docs/json', { headers: bearer(first) })).json
  routes = [...described(document), ...undescribed]
})

/** Routes that the document does not hold. */
const undescribed: Route[] = [
  { operationId: 'docs', method: 'GET', url: '/docs' },
  { operationId: 'docs', method: 'GET', url: '/docs/json' },
  { operationId: 'docs', method: 'GET', url: '/docs/static/swagger-ui.css' },
  { operationId: 'preflight', method: 'OPTIONS', url: '/api/v1/agent_tasks' },
]

/** Where a request that is allowed would never end, or do something: it is made invalid, which is told after rights are. */
const invalidQuery: Record<string, string> = {
  stream: '?from=nowhere',
  streamCollection: '?from=nowhere',
  listAudit: '?limit=0',
  auditDocuments: '?limit=0',
}

// biome-ignore lint/suspicious/noExplicitAny: an OpenAPI document is walked by path
function described(document: any): Route[] {
  return Object.entries<object>(document.paths).flatMap(([path, item]) =>
    Object.entries<{ operationId: string }>(item as never).flatMap(([verb, { operationId }]) => {
      const name = operationId.replace(new RegExp(`_(${LEGACY.join('|')})$`), '')
      const url = path.replace('{id}', 'abcdefghijkl').replace('{name}', 'agent_tasks')
      const route = {
        operationId: name,
        method: verb.toUpperCase(),
        url: url + (invalidQuery[name] ?? ''),
      }
      const generic = LEGACY.reduce((text, legacy) => text.replace(legacy, '{collection}'), path)
      const head = { method: 'HEAD' as const, url: generic.replace(/\{(\w+)\}/g, ':$1') }
      return verb === 'get' && app.hasRoute(head) ? [route, { ...route, method: 'HEAD' }] : [route]
    }),
  )
}

const preflight = { origin: 'https://app.example', 'access-control-request-method': 'GET' }

/** 401 and 403 as the table has them; 'allowed' for every other status. */
function expected(right: Right, { valid }: Caller): number | 'allowed' {
  if (right === 'public') return 'allowed'
  if (valid === undefined) return 401
  if (!hasRole({ role: valid.role } as never, right.role)) return 403
  return right.collection === undefined || valid[right.collection] ? 'allowed' : 403
}

describe.each([
  'no key',
  'garbage',
  'another scheme',
  'an expired key',
  'a revoked key',
  'a reader',
  'a writer',
  'an admin',
  'an admin who may only read another collection',
  'an admin who may only write',
  'a token of a revoked key',
  'a token for a stream',
  "a reader's token",
  "a writer's token for another collection",
])('%s', (name) => {
  test('is answered by every route as the table of rights has it', async () => {
    const caller = callers[name] as Caller
    const wrong: string[] = []
    for (const { operationId, method, url } of routes) {
      const right = rightOf(operationId)
      if (right === undefined) {
        wrong.push(`${operationId} has no entry`)
        continue
      }
      const headers = { ...caller.headers, ...(operationId === 'preflight' && preflight) }
      const answer = await call(app, method, url, { headers })
      const was = [401, 403].includes(answer.status) ? answer.status : 'allowed'
      const should = expected(right, caller)
      if (was !== should) wrong.push(`${method} ${url}: ${answer.status} instead of ${should}`)
      if (answer.status >= 500) wrong.push(`${method} ${url}: ${answer.status}`)
      if (was === 401 && answer.headers['www-authenticate'] !== 'Bearer') {
        wrong.push(`${method} ${url}: no www-authenticate`)
      }
    }
    expect(wrong).toEqual([])
  })

  test('learns of no path whether there is a route, unless it may call any', async () => {
    const caller = callers[name] as Caller
    const { status } = await call(app, 'GET', '/nowhere', { headers: caller.headers })
    expect(status).toBe(caller.valid === undefined ? 401 : 404)
  })

  test('may call what a program added itself only as an admin', async () => {
    const caller = callers[name] as Caller
    const { status } = await call(app, 'GET', '/of/a/program', { headers: caller.headers })
    expect(status).toBe(caller.valid === undefined ? 401 : caller.valid.role === 'admin' ? 200 : 403)
  })
})

test('every entry of the table was walked, and every route of the document has one', () => {
  expect(routes.length).toBeGreaterThan(60)
  const walked = new Set(routes.map(({ operationId }) => operationId))
  expect([...walked].sort()).toEqual(Object.keys(rights).sort())
})

test('what is missing is named', async () => {
  const reader = callers['a reader']?.headers ?? {}
  const role = await call(app, 'DELETE', '/api/v1/agent_tasks/x', { headers: reader })
  expectError(role, 403, 'FORBIDDEN')
  expect(role.json.message).toMatch(/role "writer".*"reader"/)
  const elsewhere = callers['an admin who may only read another collection']?.headers ?? {}
  const scope = await call(app, 'DELETE', '/api/v1/agent_tasks/x', { headers: elsewhere })
  expectError(scope, 403, 'FORBIDDEN')
  expect(scope.json.message).toBe('this needs a write scope that covers "agent_tasks"')
})

test('a route that is not in the table keeps the application from being built', async () => {
  const built = Fastify()
  const allRoutesAreThere = guardRoutes(built, '/docs')
  const get = (url: string, operationId?: string) => () =>
    built.get(url, { schema: { ...(operationId && { operationId }) } as object }, async () => 'answer')
  expect(get('/known', 'list')).not.toThrow()
  expect(get('/unknown', 'newRoute')).toThrow(/GET \/unknown \(newRoute\) is not in the table of rights/)
  expect(get('/unnamed')).toThrow(/GET \/unnamed \(without operationId\)/)
  expect(get('/inherited', 'constructor')).toThrow(/table of rights/)
  allRoutesAreThere()
  expect(get('/later')).not.toThrow()
  await built.close()
})

import { Validator } from '@seriousme/openapi-schema-validator'
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import type { FastifyInstance } from 'fastify'
import { beforeAll, expect, test } from 'vitest'
import { bodies, call, create, LEGACY } from '../support/http.js'
import { testServer } from '../support/server.js'

// biome-ignore lint/suspicious/noExplicitAny: an OpenAPI document is walked by path
type Document = any

const tree = {
  name: 'trees',
  label: 'Tree',
  schema: {
    type: 'object',
    required: ['root'],
    properties: { root: { $ref: '#/definitions/node' } },
    definitions: {
      node: {
        type: 'object',
        properties: { children: { type: 'array', items: { $ref: '#/definitions/node' } } },
      },
    },
  },
}

let app: FastifyInstance
let document: Document
const read = async (): Promise<Document> => (await call(app, 'GET', '/docs/json')).json

beforeAll(async () => {
  app = await testServer()
  await call(app, 'POST', '/api/v1/collections', { body: tree })
  document = await read()
})

test('the document is OpenAPI 3.1 and valid', async () => {
  const validator = new Validator()
  const result = await validator.validate(structuredClone(document))
  expect(result).toEqual({ valid: true })
  expect(validator.version).toBe('3.1')
})

test('every route of the application is in it, for every collection', () => {
  const routes = routesOf(app).filter((route) => !/^(HEAD|OPTIONS) |\/docs|\*/.test(route))
  expect(routes.length).toBeGreaterThan(15)
  const described = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.keys(item as object).map((method) => `${method.toUpperCase()} ${path}`),
  )
  const expected = routes.flatMap((route) => {
    const path = route.replace(/:(\w+)/g, '{$1}')
    return path.includes('{collection}')
      ? [...LEGACY, 'trees'].map((name) => path.replace('{collection}', name))
      : [path]
  })
  expect(described.sort()).toEqual(expected.sort())
})

test('operation ids are unique, parameters of paths are declared', () => {
  const ids: string[] = []
  for (const [path, item] of Object.entries<Document>(document.paths)) {
    for (const operation of Object.values<Document>(item)) {
      ids.push(operation.operationId)
      const declared = (operation.parameters ?? [])
        .filter((parameter: Document) => parameter.in === 'path')
        .map((parameter: Document) => parameter.name)
      expect(declared).toEqual([...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]))
    }
  }
  expect(new Set(ids).size).toBe(ids.length)
  expect(ids).not.toContain(undefined)
})

test('a custom collection is in it at once and goes with its drop', async () => {
  const body = { name: 'passing', schema: { type: 'object', properties: { a: { type: 'integer' } } } }
  await call(app, 'POST', '/api/v1/collections', { body })
  const now = await read()
  expect(now.components.schemas.passing.properties.a).toEqual({ type: 'integer' })
  expect(now.paths['/api/v1/passing/{id}'].get.operationId).toBe('get_passing')
  await call(app, 'DELETE', '/api/v1/collections/passing?confirm=passing')
  expect((await read()).paths['/api/v1/passing']).toBeUndefined()
})

test('every reference has something to refer to', () => {
  const references: string[] = []
  const walk = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return
    for (const [key, member] of Object.entries(value)) {
      if (key === '$ref' && typeof member === 'string') references.push(member)
      else walk(member)
    }
  }
  walk(document)
  expect(references).toContain('#/components/schemas/trees.input/definitions/node')
  for (const reference of references) {
    const found = reference
      .slice(2)
      .split('/')
      .reduce<Document>((value, key) => value?.[key], document)
    expect(found, reference).toBeDefined()
  }
})

test('answers are as the document says', async () => {
  const ajv = new Ajv2020({ strict: false })
  addFormats.default(ajv)
  ajv.addSchema({ $id: 'doc', components: document.components })
  const check = (method: string, path: string, status: string, json: unknown) => {
    const response = document.paths[path][method].responses[status]
    const schema = JSON.parse(
      JSON.stringify(response.content['application/json'].schema).replaceAll(
        '"#/components',
        '"doc#/components',
      ),
    )
    const validate = ajv.compile(schema)
    expect(validate(json), `${method} ${path}: ${JSON.stringify(validate.errors)}`).toBe(true)
  }
  for (const collection of LEGACY) {
    const url = `/api/v1/${collection}`
    const item = await create(app, collection, bodies[collection] ?? {})
    const one = `${url}/${item.id}`
    check('post', url, '201', { success: true, data: item })
    check('get', url, '200', (await call(app, 'GET', url)).json)
    check('get', `${url}/{id}`, '200', (await call(app, 'GET', one)).json)
    check('put', `${url}/{id}`, '200', (await call(app, 'PUT', one, { body: bodies[collection] })).json)
    check('patch', `${url}/{id}`, '200', (await call(app, 'PATCH', one, { body: { a: 1 } })).json)
    check('get', `${url}/{id}`, '4XX', (await call(app, 'GET', `${url}/nothing`)).json)
    check('post', url, '4XX', (await call(app, 'POST', url, { body: {} })).json)
    const operations = [
      { op: 'create', item: {} },
      { op: 'delete', id: item.id },
    ]
    check(
      'post',
      `${url}/batch`,
      '200',
      (await call(app, 'POST', `${url}/batch`, { body: { operations } })).json,
    )
  }
  for (const path of [
    '/',
    '/health',
    '/health/live',
    '/health/ready',
    '/debug/dualstore-data',
    '/api/v1/collections',
  ])
    check('get', path, '200', (await call(app, 'GET', path)).json)
  const shown = await call(app, 'GET', '/api/v1/collections/trees')
  check('get', '/api/v1/collections/{name}', '200', shown.json)
})

test('the page and all it loads come from this server, none of it from a public CDN', async () => {
  const cdn =
    /(?:src|href)="(?:https?:)?\/\/|unpkg\.com|jsdelivr|cdnjs|googleapis|bootstrapcdn|validator\.swagger\.io\/validator"/
  const page = await call(app, 'GET', '/docs/')
  const html = page.status === 302 ? await call(app, 'GET', page.headers.location ?? '') : page
  expect(html.status).toBe(200)
  expect(html.headers['content-security-policy']).toContain("default-src 'self'")
  expect(html.text).not.toMatch(cdn)
  const assets = [...html.text.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1] ?? '')
  expect(assets.length).toBeGreaterThan(4)
  for (const asset of assets) {
    const { pathname } = new URL(asset, 'http://x/docs/')
    const answer = await call(app, 'GET', pathname)
    expect(answer.status, pathname).toBe(200)
    if (/\.(js|css)$/.test(pathname))
      expect(
        answer.text.match(
          /https?:\/\/[\w.-]*(unpkg\.com|jsdelivr|cdnjs|googleapis|bootstrapcdn)[^"' ]*/,
        )?.[0],
      ).toBeUndefined()
  }
  for (const url of ['/docs', '/docs/json', '/docs/yaml'])
    expect((await call(app, 'GET', url)).status).toBeLessThan(400)
})

test('OPENAPI_ENABLED=false serves none of it', async () => {
  const closed = await testServer('embedded', { openapiEnabled: false })
  for (const url of ['/docs', '/docs/json']) expect((await call(closed, 'GET', url)).status).toBe(404)
})

/** "METHOD /path" of every route, from Fastify's own tree. */
function routesOf(instance: FastifyInstance): string[] {
  const routes: string[] = []
  const above: string[] = []
  for (const line of instance.printRoutes({ commonPrefix: false }).split('\n')) {
    const [, indent, segment, methods] = /^((?:[│ ] {3})*(?:[├└]── ))(.*?) \(([A-Z, ]+)\)$/.exec(line) ?? []
    const [, bareIndent, bare] = /^((?:[│ ] {3})*(?:[├└]── ))(.*?)$/.exec(line) ?? []
    const depth = ((indent ?? bareIndent)?.length ?? 0) / 4
    if (depth === 0) continue
    above.length = depth - 1
    above.push(segment ?? bare ?? '')
    for (const method of methods?.split(', ') ?? []) routes.push(`${method} ${above.join('')}`)
  }
  return routes
}

import type { FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import { call, expectError } from '../../support/http.js'
import { testServer } from '../../support/server.js'
import { tasksOf, times, urlOf } from '../../support/tasks.js'

const MERGE = { 'content-type': 'application/merge-patch+json' }
const JSON_PATCH = { 'content-type': 'application/json-patch+json' }

let app: FastifyInstance
beforeAll(async () => {
  app = await testServer()
})

const { fresh, read } = tasksOf(() => app)
const jsonPatch = (item: { id: string }, body: unknown) =>
  call(app, 'PATCH', urlOf(item), { headers: JSON_PATCH, body })

describe('PATCH', () => {
  test('merges as RFC 7396 says: null removes, objects merge, arrays replace', async () => {
    const item = await fresh({ input_data: { a: 1, b: { c: 2, d: [1, 2] } }, tags: [1, 2], gone: true })
    const body = {
      input_data: { b: { c: null, d: [3], e: null } },
      tags: { x: null, y: 1 },
      gone: null,
      none: null,
    }
    for (const headers of [MERGE, {}]) {
      const answer = await call(app, 'PATCH', urlOf(item), { headers, body })
      expect(answer.status).toBe(200)
      const { gone: _gone, ...rest } = item
      expect(answer.json.data).toEqual({
        ...rest,
        input_data: { a: 1, b: { d: [3] } },
        tags: { y: 1 },
        updated_at: answer.json.data.updated_at,
      })
      expect(await read(item)).toEqual(answer.json.data)
    }
  })

  test('fields called like what every object inherits are fields like any other', async () => {
    const item = await fresh({ hasOwnProperty: 1, toString: { a: 1 }, output_data: { valueOf: 'x' } })
    const body = { constructor: { a: 1 }, prototype: 2, toString: { b: 2 }, hasOwnProperty: null, last: 3 }
    const answer = await call(app, 'PATCH', urlOf(item), { body })
    expect(answer.status, answer.text).toBe(200)
    const { hasOwnProperty: _gone, ...rest } = item
    const { updated_at } = answer.json.data
    const changed = { constructor: { a: 1 }, prototype: 2, toString: { a: 1, b: 2 }, last: 3, updated_at }
    expect(await read(item)).toEqual({ ...rest, ...changed })
  })

  test('the result is checked against the schema, and the document is left alone', async () => {
    const item = await fresh()
    const answer = await call(app, 'PATCH', urlOf(item), { body: { status: 'odd' } })
    expectError(answer, 400)
    expect(answer.json.details[0].field).toBe('body.status')
    expectError(await call(app, 'PATCH', urlOf(item), { body: { agent_id: null } }), 400)
    expectError(await call(app, 'PATCH', urlOf(item), { body: [] }), 400, 'INVALID_PATCH')
    expect(await read(item)).toEqual(item)
  })

  test('neither id nor created_at can be changed', async () => {
    const item = await fresh()
    expectError(await call(app, 'PATCH', urlOf(item), { body: { id: 'other' } }), 400, 'INVALID_PATCH')
    expectError(await call(app, 'PATCH', urlOf(item), { body: { id: null } }), 400, 'INVALID_PATCH')
    expectError(await jsonPatch(item, [{ op: 'replace', path: '/id', value: 'other' }]), 400, 'INVALID_PATCH')
    expectError(await jsonPatch(item, [{ op: 'remove', path: '/id' }]), 400, 'INVALID_PATCH')
    const times = { created_at: '2001-01-01T00:00:00.000Z', updated_at: null }
    const answer = await call(app, 'PATCH', urlOf(item), { body: { ...times, progress: 1 } })
    expect(answer.json.data).toMatchObject({ created_at: item.created_at, progress: 1 })
  })

  test('applies JSON Patch in order, with every operation', async () => {
    const item = await fresh({ list: [1, 2], input_data: { 'a/b': { '~': 1 } } })
    const answer = await jsonPatch(item, [
      { op: 'test', path: '/list/0', value: 1 },
      { op: 'add', path: '/list/-', value: 3 },
      { op: 'add', path: '/list/0', value: 0 },
      { op: 'replace', path: '/status', value: 'running' },
      { op: 'copy', from: '/list', path: '/copied' },
      { op: 'move', from: '/input_data/a~1b/~0', path: '/moved' },
      { op: 'remove', path: '/copied/1' },
    ])
    expect(answer.json.data).toMatchObject({
      list: [0, 1, 2, 3],
      copied: [0, 2, 3],
      moved: 1,
      status: 'running',
      input_data: { 'a/b': {} },
    })
    expect(await read(item)).toEqual(answer.json.data)
  })

  test('a test that does not hold is 409, names the operation and changes nothing', async () => {
    const item = await fresh()
    const answer = await jsonPatch(item, [
      { op: 'replace', path: '/status', value: 'failed' },
      { op: 'test', path: '/status', value: 'pending' },
    ])
    expectError(answer, 409, 'CONFLICT')
    expect(answer.json.details).toEqual([{ field: 'body[1]', message: 'does not hold' }])
    expect(await read(item)).toEqual(item)
  })

  const deepPath = '/a'.repeat(5000)
  test.each<[string, unknown]>([
    ['no operation', [{}]],
    ['null', [null]],
    ['an unknown operation', [{ op: 'delete', path: '/status' }]],
    ['no path', [{ op: 'add', value: 1 }]],
    ['no value', [{ op: 'add', path: '/a' }]],
    ['a path that is no pointer', [{ op: 'add', path: 'a', value: 1 }]],
    ['a path into nothing', [{ op: 'add', path: '/no/where', value: 1 }]],
    ['a path into nothing, far', [{ op: 'add', path: deepPath, value: 1 }]],
    ['removing nothing', [{ op: 'remove', path: '/nothing' }]],
    ['an index behind the end', [{ op: 'add', path: '/list/7', value: 1 }]],
    ['an index that is none', [{ op: 'add', path: '/list/x', value: 1 }]],
    ['__proto__', [{ op: 'add', path: '/__proto__/polluted', value: 1 }]],
    ['constructor.prototype', [{ op: 'add', path: '/constructor/prototype/polluted', value: 1 }]],
    ['constructor', [{ op: 'add', path: '/constructor/polluted', value: 1 }]],
    [
      'copying the constructor',
      [
        { op: 'copy', from: '/constructor', path: '' },
        { op: 'add', path: '/polluted', value: 1 },
      ],
    ],
    [
      'the prototype in steps',
      [
        { op: 'copy', from: '/constructor', path: '' },
        { op: 'copy', from: '/prototype', path: '' },
        { op: 'add', path: '/polluted', value: 1 },
      ],
    ],
    ['moving a function', [{ op: 'move', from: '/constructor/keys', path: '/x' }]],
    ['moving a function to the root', [{ op: 'move', from: '/constructor/keys', path: '' }]],
    ['copying nothing', [{ op: 'copy', from: '/nothing', path: '/x' }]],
    ['copying from no pointer', [{ op: 'copy', from: 7, path: '/x' }]],
    ['moving into itself', [{ op: 'move', from: '/input_data', path: '/input_data/x' }]],
    ['moving all into itself', [{ op: 'move', from: '', path: '/x' }]],
    ['doubling for ever', times(200).map((n) => ({ op: 'copy', from: '', path: `/copy${n}` }))],
    ['replacing all by nothing', [{ op: 'remove', path: '' }]],
    ['replacing all by a number', [{ op: 'replace', path: '', value: 7 }]],
    ['too many operations', times(1001).map(() => ({ op: 'test', path: '/status', value: 'pending' }))],
    ['an object', { op: 'add' }],
  ])('JSON Patch with %s is 400 and changes nothing, in the document or the process', async (_name, body) => {
    const item = await fresh({ list: [1], input_data: {} })
    const keys = Object.getOwnPropertyNames(Object)
    const inherited = Object.getOwnPropertyNames(Object.prototype)
    const answer = await jsonPatch(item, body)
    expectError(answer, 400)
    expect(Object.getOwnPropertyNames(Object)).toEqual(keys)
    expect(Object.getOwnPropertyNames(Object.prototype)).toEqual(inherited)
    expect(await read(item)).toEqual(item)
  })

  test('an unknown content type is 415, whatever its case a known one is taken', async () => {
    const item = await fresh()
    for (const type of [
      'text/plain',
      'application/xml',
      'application/x-ndjson',
      'multipart/form-data; boundary=x',
    ])
      expectError(
        await call(app, 'PATCH', urlOf(item), { headers: { 'content-type': type }, body: '{}' }),
        415,
        'UNSUPPORTED_MEDIA_TYPE',
      )
    const headers = { 'content-type': 'Application/JSON-Patch+json; charset=utf-8' }
    const body = [{ op: 'add', path: '/n', value: 1 }]
    expect((await call(app, 'PATCH', urlOf(item), { headers, body })).json.data.n).toBe(1)
  })

  test('of 50 concurrent PATCHes none is lost', async () => {
    const item = await fresh({ list: [] })
    const answers = await Promise.all(
      times(50).map((n) => jsonPatch(item, [{ op: 'add', path: '/list/-', value: n }])),
    )
    expect(answers.map((answer) => answer.status)).toEqual(times(50).map(() => 200))
    const { list } = await read(item)
    expect([...list].sort((a, b) => a - b)).toEqual(times(50))
    expect((await call(app, 'GET', urlOf(item))).headers.etag).toBe('"51"')
  })
})

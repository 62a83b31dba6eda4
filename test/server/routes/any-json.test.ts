import fc from 'fast-check'
import type { FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Answer, call, fromMirror, withQuery } from '../../support/http.js'
import { json as anyJson } from '../../support/items.js'
import { serverWithNotes } from '../../support/server.js'

const NOTES = '/api/v1/notes'

let app: FastifyInstance
beforeAll(async () => {
  app = await serverWithNotes()
})

describe('any JSON', () => {
  const good = (answer: Answer) => answer.status < 300 || (answer.status >= 400 && answer.status < 500)
  const object = fc.dictionary(fc.string({ maxLength: 8 }), anyJson, { maxKeys: 4 })
  // What the server adds or owns is no part of what was sent.
  const own = ({ id: _id, created_at: _c, updated_at: _u, ...fields }: Record<string, unknown>) => fields
  const asSent = (body: unknown) => own(JSON.parse(JSON.stringify(body)))

  test('is refused with 4xx, or stored and given back equal by both stores', async () => {
    const kept: { id: string; item: unknown }[] = []
    await fc.assert(
      fc.asyncProperty(object, object, async (body, patch) => {
        const answer = await call(app, 'POST', NOTES, { body })
        expect(good(answer), answer.text).toBe(true)
        const { id } = answer.json.data ?? { id: 'fc-put' }
        if (answer.status === 201) {
          expect(own(answer.json.data)).toEqual(asSent(body))
          expect((await call(app, 'GET', `${NOTES}/${encodeURIComponent(id)}`)).json.data).toEqual(
            answer.json.data,
          )
        }
        const put = await call(app, 'PUT', `${NOTES}/fc-put`, { body: { ...body, id: 'fc-put' } })
        expect(good(put), put.text).toBe(true)
        const url = `${NOTES}/${encodeURIComponent(id)}`
        for (const type of ['application/json', 'application/json-patch+json']) {
          const sent = type === 'application/json' ? patch : [{ op: 'add', path: '/x', value: patch }]
          const patched = await call(app, 'PATCH', url, { headers: { 'content-type': type }, body: sent })
          expect(good(patched), patched.text).toBe(true)
        }
        const batched = await call(app, 'POST', `${NOTES}/batch`, {
          body: { operations: [{ op: 'patch', id, patch }, { op: 'create', item: body }, patch] },
        })
        expect(good(batched), batched.text).toBe(true)
        const filtered = await call(
          app,
          'GET',
          withQuery(NOTES, { filter: JSON.stringify(patch).slice(0, 4000), limit: 1 }),
        )
        expect(good(filtered), filtered.text).toBe(true)
        const now = await call(app, 'GET', url)
        if (now.status === 200) kept.push({ id, item: now.json.data })
      }),
      { numRuns: 60 },
    )
    const headers = await fromMirror(app, 'notes')
    const last = new Map(kept.map(({ id, item }) => [id, item]))
    last.delete('fc-put')
    for (const [id, item] of last) {
      const answer = await call(app, 'GET', `${NOTES}/${encodeURIComponent(id)}`, { headers })
      expect(answer.json.data).toEqual(item)
    }
    expect(last.size).toBeGreaterThan(10)
  })

  test('values that some language or store treats specially come back equal', async () => {
    const body = {
      '': { '': '' },
      'a.b': { $set: 1 },
      $where: 'x',
      _id: 5,
      hasOwnProperty: null,
      toString: [1],
      constructor: 'c',
      _bsontype: 'ObjectID',
      numbers: [0, 1e-300, 1e308, 123456789012345680000, -1.5],
      text: '\u2028\u0001"\\/\ud83d\ude00',
    }
    const { json } = await call(app, 'POST', NOTES, { body })
    expect(own(json.data)).toEqual(body)
    const url = `${NOTES}/${json.data.id}`
    expect((await call(app, 'GET', url)).json.data).toEqual(json.data)
    expect((await call(app, 'GET', url, { headers: await fromMirror(app, 'notes') })).json.data).toEqual(
      json.data,
    )
  })
})

import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { BSON } from 'mongodb'
import { describe, expect, it } from 'vitest'
import type { LegacyDocument } from '../../../src/server/mirror/contract.js'
import { fromLegacy, toLegacy } from '../../../src/server/mirror/legacy-shape.js'
import type { Item, Json } from '../../../src/server/schemas/item.js'
import { shippedCollections } from '../../../src/server/schemas/shipped-collections.js'
import { customCollection, itemOf } from '../../support/items.js'

const [messages, tasks, events] = shippedCollections as [
  (typeof shippedCollections)[0],
  (typeof shippedCollections)[0],
  (typeof shippedCollections)[0],
]
const times = { created_at: '2026-01-02T03:04:05.678Z', updated_at: '2026-02-03T04:05:06.789Z' }
const common = {
  updated_at: times.updated_at,
  timestamp: times.created_at,
  vectorWriteSuccess: false,
  vectorWriteTimestamp: null,
}
const message = (fields: { [field: string]: Json }): Item => ({ ...fields, id: 'msg_1', ...times })
const shape = (item: Item) => toLegacy(messages, { item, seq: 7, version: 3 })

describe('the legacy shape', () => {
  it('of a session message spreads its metadata beside the legacy fields', () => {
    const fields = {
      session_id: 'ses_1',
      role: 'user',
      content: 'hello',
      metadata: { model: 'm', tokens: 3 },
    }
    expect(shape(message(fields))).toEqual({
      _id: 'msg_1',
      id: 'msg_1',
      text: 'hello',
      timestamp: times.created_at,
      metadata: { session_id: 'ses_1', role: 'user', model: 'm', tokens: 3, ...common },
      dualstore: { seq: 7, version: 3 },
    })
  })

  it('of an agent task uses the legacy camel-case names and leaves missing fields missing', () => {
    const item = {
      id: 'task_1',
      ...times,
      session_id: 's',
      agent_id: 'a',
      task_type: 'build',
      status: 'running',
      output_data: { rows: [1, null] },
    }
    expect(toLegacy(tasks, { item, seq: 1, version: 1 })).toEqual({
      _id: 'task_1',
      id: 'task_1',
      text: 'build',
      timestamp: times.created_at,
      metadata: {
        sessionId: 's',
        agentId: 'a',
        taskType: 'build',
        status: 'running',
        outputData: { rows: [1, null] },
        ...common,
      },
      dualstore: { seq: 1, version: 1 },
    })
  })

  it('of an event keeps what legacy readers can read of data whose field names MongoDB cannot hold', () => {
    const event_data = { type: 'file.edited', files: { 'src/a.ts': 1, $ref: 2, plain: 3 } }
    const item = { id: 'event_1', ...times, event_type: 'file.edited', event_data, source: 'opencode' }
    const document = toLegacy(events, { item, seq: 1, version: 1 })
    expect(document.metadata.event_data).toEqual({ type: 'file.edited', files: { plain: 3 } })
    expect(JSON.parse(document.dualstore.item ?? '')).toEqual(item)
  })

  it('lets legacy fields win over spread keys of the same name, and keeps the item whole beside them', () => {
    const item = message({
      session_id: 's',
      role: 'user',
      content: '',
      metadata: { role: 'x', timestamp: 'never' },
    })
    const document = shape(item)
    expect(document.metadata).toMatchObject({ role: 'user', timestamp: times.created_at })
    expect(fromLegacy(messages, document).item).toEqual(item)
  })

  it('has an empty text when the field is missing or not a string', () => {
    expect(shape(message({})).text).toBe('')
    expect(shape(message({ content: 5 })).text).toBe('')
  })

  it.each([
    ['plain fields', {}, false],
    ['a nested object', { metadata: { a: { b: [1, { c: null }] } } }, false],
    ['a null where a field may be missing', { metadata: { a: null } }, false],
    ['a field that the collection does not name', { mood: 'good' }, true],
    ['an empty object where metadata is spread', { metadata: {} }, true],
    ['metadata that is no object', { metadata: [1] }, true],
    ['a negative zero', { metadata: { a: -0 } }, true],
    ['a lone surrogate', { metadata: { a: '\ud800' } }, true],
    ['a spread key that reads as a legacy field', { metadata: { vectorWriteSuccess: true } }, true],
  ])('keeps the item beside %j only when it must', (_, fields, kept) => {
    const item = message({ session_id: 's', role: 'user', content: 'c', ...fields })
    const document = shape(item)
    expect(document.dualstore.item !== undefined).toBe(kept)
    expect(isDeepStrictEqual(fromLegacy(messages, document).item, item)).toBe(true)
  })

  it.each([...shippedCollections, customCollection])(
    'gives back any item of $name, through BSON as through JSON, and never makes BSON that readers misread',
    (definition) => {
      const property = fc.property(itemOf(definition), fc.nat(), fc.nat(), (item, seq, version) => {
        const document = toLegacy(definition, { item, seq, version })
        const stored = BSON.serialize(document, { checkKeys: true, ignoreUndefined: false })
        const fromBson = BSON.deserialize(stored) as LegacyDocument
        const fromJson = JSON.parse(JSON.stringify(document)) as LegacyDocument
        expect(deepestLevel(fromBson)).toBeLessThanOrEqual(100)
        expect(
          fieldNames(fromBson).filter((name) => /^$|^\$|[.\0]|^__proto__$|^_bsontype$/.test(name)),
        ).toEqual([])
        for (const read of [document, fromBson, fromJson]) {
          expect(isDeepStrictEqual(fromLegacy(definition, read), { item, seq, version })).toBe(true)
        }
      })
      fc.assert(property, { numRuns: 1500 })
    },
  )

  it('is read from its legacy fields when another program spoiled the item beside them', () => {
    const document = shape(message({ session_id: 's', content: 'c', mood: 'good' }))
    document.dualstore.item = '{"id": '
    expect(fromLegacy(messages, document).item).toEqual(message({ session_id: 's', content: 'c' }))
  })
})

function fieldNames(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return []
  const names = Array.isArray(value) ? [] : Object.keys(value)
  return [...names, ...Object.values(value).flatMap(fieldNames)]
}

function deepestLevel(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  return 1 + Math.max(0, ...Object.values(value).map(deepestLevel))
}

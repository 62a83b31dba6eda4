import fc from 'fast-check'
import { BSON, type Document } from 'mongodb'
import { describe, expect, it } from 'vitest'
import type { Oddity, SourceDocument, Understood } from '../../src/migrate/sources/contract.js'
import { understand } from '../../src/migrate/understand.js'
import { toLegacy } from '../../src/server/mirror/legacy-shape.js'
import type { CollectionDefinition } from '../../src/server/schemas/collection.js'
import type { Item, Json } from '../../src/server/schemas/item.js'
import { shippedCollections } from '../../src/server/schemas/shipped-collections.js'
import { idFault } from '../../src/server/services/ids.js'
import { compileItemValidator, ownFields } from '../../src/server/services/item-validator.js'
import { storageFault } from '../../src/server/services/storable.js'
import { customCollection, itemOf, json } from '../support/items.js'
import { legacyDatabase } from '../support/legacy-database.js'
import { at, bookkeeping, cases, doc, item, ms, refused, values } from './understand-cases.js'

const { EJSON } = BSON
const [messages, tasks, events] = shippedCollections as [
  CollectionDefinition,
  CollectionDefinition,
  CollectionDefinition,
]
const definitions = { message: messages, task: tasks, event: events }

const sourceOf = (document: Document): SourceDocument => ({
  sourceId: EJSON.stringify(document._id ?? null, { relaxed: false }),
  document,
})
const meaning = (definition: CollectionDefinition, document: Document) =>
  understand(definition, sourceOf(document))

function expectItem(understood: Understood, expected: Item, oddities: readonly Oddity[]): void {
  expect(understood).toEqual({
    kind: 'item',
    sourceId: expect.any(String),
    item: expected,
    createdAt: Date.parse(expected.created_at),
    updatedAt: Date.parse(expected.updated_at),
    oddities: expect.anything(),
  })
  expect([...understood.oddities].sort()).toEqual([...oddities].sort())
}

describe('a legacy document', () => {
  it.each(cases)('with %s', (_, kind, document, expected, ...oddities) => {
    expectItem(meaning(definitions[kind], document), expected, oddities)
  })

  it.each(values)('keeps the meaning of %o as JSON, deep inside too', (value, expected) => {
    const understood = meaning(events, doc('event', {}, { event_data: { plain: 1, list: [{ value }] } }))
    expectItem(understood, item('event', { event_data: { plain: 1, list: [{ value: expected }] } }), [
      'value_converted',
    ])
  })

  it.each(refused)('with %s is quarantined', (_, kind, document, reason, id = 'x1') => {
    const understood = meaning(definitions[kind], document)
    expect(understood).toMatchObject({ kind: 'quarantined', id, reason: expect.stringMatching(reason) })
    const kept = EJSON.parse((understood as { document: string }).document, { relaxed: true })
    expect(kept).toEqual(EJSON.parse(EJSON.stringify(document), { relaxed: true }))
  })

  it('with data called _bsontype is quarantined as it is', () => {
    const odd = { _bsontype: 'ObjectId' }
    const understood = meaning(tasks, doc('task', {}, { status: odd }))
    expect(understood).toMatchObject({
      kind: 'quarantined',
      document: expect.stringContaining('"_bsontype"'),
    })
  })

  it('that dualstore wrote is read as it was written, unless another program has spoilt it', () => {
    const mine = item('task', { status: 'running', deep: [{ a: null }], progress: 0 })
    const mirrored: Document = toLegacy(tasks, { item: mine, seq: 7, version: 1 })
    expectItem(meaning(tasks, mirrored), mine, ['written_by_dualstore'])
    const spoilt = { ...toLegacy(tasks, { item: item('task'), seq: 7, version: 1 }), timestamp: 'soon' }
    expect(meaning(tasks, spoilt)).toMatchObject({ kind: 'quarantined', id: 'x1' })
  })
})

describe('every document', () => {
  const word = fc.constantFrom(
    ...[
      'id',
      'text',
      'timestamp',
      'metadata',
      'dualstore',
      'session_id',
      'sessionId',
      'role',
      'content',
      'status',
    ],
    ...[
      'type',
      'rawEvent',
      'createdAt',
      'created_at',
      'updated_at',
      'metadata_extra',
      '__proto__',
      '_bsontype',
      'seq',
    ],
    ...['event_type', 'event_data', 'progress', 'constructor', 'taskType', 'vectorWriteSuccess', 'item', ''],
  )
  const bson = fc.letrec<{ value: unknown }>((tie) => {
    const object = fc
      .array(fc.tuple(word, tie('value')), { maxLength: 8 })
      .map((members) => Object.fromEntries(members))
    return {
      value: fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        fc.constantFrom<unknown>(
          ...values.map(([value]) => value),
          '{"type":"t"}',
          at,
          'ses_1',
          '',
          'user',
          'batch',
        ),
        json,
        fc.array(tie('value'), { maxLength: 3 }),
        { weight: 3, arbitrary: object },
      ),
    }
  }).value
  const document = fc
    .array(fc.tuple(fc.oneof(word, fc.constantFrom('_id', 'metadata')), bson), { maxLength: 10 })
    .map((members): Document => Object.fromEntries(members))
  const definition = fc.constantFrom(...shippedCollections, customCollection)

  it('is understood or quarantined, always the same way, into what can be stored', () => {
    fc.assert(
      fc.property(definition, document, (of, one) => {
        const source = { sourceId: 'x', document: one }
        const understood = understand(of, source)
        expect(understand(of, source)).toEqual(understood)
        if (understood.kind === 'quarantined') {
          expect(understood.reason).toMatch(/\S/)
          expect(() => JSON.parse(understood.document)).not.toThrow()
          return
        }
        const stored = JSON.parse(JSON.stringify(understood.item)) as Item
        expect(storageFault(stored, 'item')).toBeUndefined()
        expect(meaning(of, { ...toLegacy(of, { item: stored, seq: 1, version: 1 }) })).toMatchObject({
          item: stored,
        })
      }),
    )
  })

  it('nested beyond every bound is quarantined', () => {
    let deep: Document = {}
    for (let level = 0; level < 20_000; level++) deep = { deep }
    expect(meaning(tasks, doc('task', { deep }))).toMatchObject({ kind: 'quarantined', id: 'x1' })
  })

  it('that the legacy server would have written for an item means that item', () => {
    for (const of of shippedCollections) {
      const validate = compileItemValidator(of.schema)
      const fits = itemOf(of).map((any) => ({ ...any, ...fitting(of.name) }) as Item)
      fc.assert(
        fc.property(fits, (any) => {
          fc.pre(validate(ownFields(any), 'item') === undefined)
          const { dualstore, ...legacy } = toLegacy(of, { item: any, seq: 1, version: 1 })
          // Fields that the legacy shape has no place for are dualstore's to keep.
          fc.pre(dualstore.item === undefined && idFault(any.id, 'id') === undefined)
          const metadata = { ...legacy.metadata, ...bookkeeping, timestamp: ms }
          expect(meaning(of, { ...legacy, metadata })).toMatchObject({ kind: 'item', item: any })
        }),
        { numRuns: 50 },
      )
    }
  })
})

/** What a schema asks for, so that not every generated item is refused by it. */
function fitting(collection: string): { [field: string]: Json } {
  if (collection === 'session_messages')
    return { session_id: 's', role: 'user', content: 'c', metadata: { a: 1 } }
  if (collection === 'agent_tasks') {
    return {
      session_id: 's',
      agent_id: 'a',
      task_type: 't',
      status: 'failed',
      progress: 1,
      input_data: { b: [] },
    }
  }
  return { event_type: 'e', event_data: { c: null }, source: 's', session_id: 's', severity: 'critical' }
}

describe('a generated legacy database', () => {
  it.each(shippedCollections)('of $name means what its oracle says', (definition) => {
    const legacy = legacyDatabase({ seed: 1, documents: 1500 })
    const counts = { read: 0, quarantined: 0 }
    const winners = new Map<string, { item: Item; updatedAt: number }>()
    const seen = new Set<string>()
    for (const made of legacy.documents(definition.name)) {
      for (const kind of made.kinds) seen.add(kind)
      counts.read++
      const understood = meaning(definition, made.document)
      const got = understood.kind === 'item' ? understood.item : null
      expect({ kinds: made.kinds, item: got }).toEqual({ kinds: made.kinds, item: made.item })
      if (understood.kind === 'quarantined') counts.quarantined++
      else if (understood.updatedAt >= (winners.get(understood.item.id)?.updatedAt ?? -1)) {
        winners.set(understood.item.id, understood)
      }
    }
    const { read, created, merged, quarantined, winners: expected } = legacy.expected(definition.name)
    expect({ read, quarantined }).toEqual(counts)
    expect(read).toBe(created + merged + quarantined)
    expect(merged).toBeGreaterThan(0)
    expect([...winners.keys()].sort()).toEqual([...expected.keys()].sort())
    expect(seen.size).toBeGreaterThan(30)
  })
})

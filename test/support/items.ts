import fc from 'fast-check'
import type { CollectionDefinition } from '../../src/server/schemas/collection.js'
import type { Item, Json } from '../../src/server/schemas/item.js'

/** A collection that nobody shipped: a text that may be missing, a spread, names that clash with legacy ones. */
export const customCollection: CollectionDefinition = {
  name: 'notes',
  label: 'Note',
  id_prefix: 'note',
  schema: { type: 'object' },
  indexes: [{ fields: ['author', 'created_at'] }, { fields: ['tags', 'labels'] }, { type: 'text' }],
  mirror: {
    collection: 'notes',
    text: 'body',
    metadata: { author: 'author', tags: 'labels', labels: 'timestamp', 'odd.name': 'odd.name', big: '$big' },
    spread: 'extra',
  },
}

/** Field names of every kind that some store or language treats specially, among ordinary ones. */
const fieldName = fc.oneof(
  { weight: 3, arbitrary: fc.stringMatching(/^[a-z_]{1,8}$/) },
  fc.constantFrom(
    '',
    '$set',
    '$',
    'a.b',
    '.',
    'nul\0',
    '__proto__',
    'constructor',
    'toJSON',
    'length',
    '0',
    '7',
  ),
  fc.constantFrom(
    '_id',
    'id',
    'text',
    'timestamp',
    'updated_at',
    'vectorWriteSuccess',
    'vectorWriteTimestamp',
  ),
  fc.constantFrom(
    'session_id',
    'role',
    'sessionId',
    'status',
    '_bsontype',
    'dualstore',
    'metadata',
    'é',
    '漢',
    '😀',
  ),
  fc.string({ unit: 'binary', maxLength: 6 }),
)

const number = fc.oneof(
  fc.constantFrom(0, -0, 0.1, 1e308, -1e308, 5e-324, 2 ** 31, -(2 ** 31) - 1, 2 ** 53, -(2 ** 53), 1e21),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.integer(),
)

const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string(),
  fc.constantFrom('', '\0', '\ud800', 'a\udc00b', '😀'),
)

/** An object of own fields, `__proto__` included, as JSON.parse makes them. */
function objectOf(values: fc.Arbitrary<Json>): fc.Arbitrary<{ [field: string]: Json }> {
  return fc.array(fc.tuple(fieldName, values), { maxLength: 4 }).map((fields) => Object.fromEntries(fields))
}

const nestedDeep = fc.integer({ min: 90, max: 110 }).map((levels) => {
  let value: Json = 'bottom'
  for (let level = 0; level < levels; level++) value = level % 2 === 0 ? [value] : { in: value }
  return value
})

export const json: fc.Arbitrary<Json> = fc.letrec<{ value: Json }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    { weight: 2, arbitrary: fc.constant(null) },
    { weight: 2, arbitrary: text },
    { weight: 2, arbitrary: number },
    fc.boolean(),
    fc.array(tie('value'), { maxLength: 3 }),
    objectOf(tie('value')),
    nestedDeep,
  ),
})).value

const id = fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 20 })
const time = fc
  .date({ min: new Date('2001-01-01'), max: new Date('2099-01-01'), noInvalidDate: true })
  .map((date) => date.toISOString())

/**
 * Any item of a collection: its own fields present or missing, of the right kind or not, an object where one is
 * spread, and fields nobody declared.
 */
export function itemOf(definition: CollectionDefinition): fc.Arbitrary<Item> {
  const { mirror } = definition
  const known = [
    ...Object.keys(mirror.metadata),
    ...[mirror.text, mirror.spread].filter((name) => name !== null),
  ]
  const fields = Object.fromEntries(
    known.map((name) => [
      name,
      name === mirror.spread ? fc.oneof(objectOf(json), json) : fc.oneof(text, json),
    ]),
  )
  return fc
    .tuple(fc.record(fields, { requiredKeys: [] }), fc.oneof(fc.constant({}), objectOf(json)), id, time, time)
    .map(([declared, others, itemId, created, updated]) => ({
      ...others,
      ...(declared as { [field: string]: Json }),
      id: itemId,
      created_at: created,
      updated_at: updated,
    }))
}

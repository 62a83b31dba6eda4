import fc from 'fast-check'
import type { Json } from '../../../src/server/schemas/item.js'

// Small pools make hits likely. The strings hold what a comparison, a quoting or a path could trip over.
export const strings = [
  '',
  'a',
  'A',
  'b',
  'B',
  'ab',
  '1',
  '01',
  'null',
  '[1]',
  '{"a": 1}',
  "'; --",
  '"',
  '\\',
  '{}',
  'é',
  '\u{ff5e}',
  '\u{1f600}',
]
export const numbers = [0, -0, 1, -1, 1.5, 10, 9, 1e300, -1e300, 5e-324, 0.1, 2 ** 53]
export const KEYS = ['a', 'b', 'id', '0', '-1', '01', '__proto__', 'constructor', 'é']

export const scalar: fc.Arbitrary<Json> = fc.oneof(
  fc.constantFrom<Json>(null, true, false),
  fc.constantFrom(...numbers),
  fc.constantFrom(...strings),
)

function object(value: fc.Arbitrary<Json>, keys: readonly string[]): fc.Arbitrary<Json> {
  return fc
    .uniqueArray(fc.tuple(fc.constantFrom(...keys), value), { selector: ([key]) => key, maxLength: 3 })
    .map((entries) =>
      JSON.parse(`{${entries.map(([k, v]) => `${JSON.stringify(k)}: ${JSON.stringify(v)}`).join()}}`),
    )
}

export const json: fc.Arbitrary<Json> = fc.letrec<{ value: Json }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3, depthSize: 'small' },
    scalar,
    fc.array(tie('value'), { maxLength: 3 }),
    object(tie('value'), KEYS),
  ),
})).value

/** The members of an item beside its id. */
export const body = object(
  json,
  KEYS.filter((key) => key !== 'id'),
) as fc.Arbitrary<{ [field: string]: Json }>

const path = fc
  .array(fc.constantFrom(...KEYS), { minLength: 1, maxLength: 3 })
  .map((segments) => segments.join('.'))
const bound = fc.oneof(fc.constantFrom(...numbers), fc.constantFrom(...strings))

const operators: fc.Arbitrary<object> = fc.letrec<{ some: object }>((tie) => ({
  some: fc.oneof(
    { maxDepth: 2 },
    fc
      .record(
        { $eq: json, $ne: json, $gt: bound, $gte: bound, $lt: bound, $lte: bound },
        { requiredKeys: [] },
      )
      .filter((value) => Object.keys(value).length > 0),
    fc.record({ $in: fc.array(json, { maxLength: 4 }) }),
    fc.record({ $nin: fc.array(json, { maxLength: 4 }) }),
    fc.record({ $exists: fc.boolean() }),
    fc.record({ $not: tie('some') }),
  ),
})).some

/** Filters as clients write them, all of them valid. */
export const filter: fc.Arbitrary<object> = fc.letrec<{ filter: object }>((tie) => {
  const several = fc.array(tie('filter'), { minLength: 1, maxLength: 3 })
  const member = fc.tuple(path, fc.oneof(operators, json))
  return {
    filter: fc.oneof(
      { maxDepth: 3, depthSize: 'small' },
      fc.array(member, { maxLength: 2 }).map((members) => {
        const text = members.map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`).join()
        return JSON.parse(`{${text}}`) as object
      }),
      fc.record({ $and: several }),
      fc.record({ $or: several }),
      fc.record({ $nor: several }),
    ),
  }
}).filter

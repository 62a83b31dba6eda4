import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DualstoreError } from '../../../src/server/errors.js'
import { parseFilter } from '../../../src/server/filter/parse.js'
import { filter, KEYS } from './arbitraries.js'

function refusal(input: unknown): DualstoreError {
  try {
    parseFilter(input)
  } catch (error) {
    expect(error).toBeInstanceOf(DualstoreError)
    return error as DualstoreError
  }
  throw new Error(`accepted ${JSON.stringify(input)}`)
}

const nested = (levels: number) => `${'{"$and":['.repeat(levels)}{"a":1}${']}'.repeat(levels)}`
const deepValue = (levels: number) => `{"a":${'['.repeat(levels)}1${']'.repeat(levels)}}`

describe('parseFilter', () => {
  test('resolves the shorthands of the language', () => {
    expect(parseFilter({})).toEqual({ op: 'and', of: [] })
    expect(parseFilter({ 'a.b': 1 })).toEqual({ op: 'in', path: ['a', 'b'], values: [1] })
    expect(parseFilter({ a: { $ne: 1, $lt: 5 } })).toEqual({
      op: 'and',
      of: [
        { op: 'not', of: { op: 'in', path: ['a'], values: [1] } },
        { op: 'lt', path: ['a'], bound: 5 },
      ],
    })
    expect(parseFilter('{"$nor": [{"a": {"$exists": false}}]}')).toEqual({
      op: 'not',
      of: { op: 'or', of: [{ op: 'not', of: { op: 'exists', path: ['a'] } }] },
    })
  })

  test('takes every filter of the language as an object and as JSON text alike', () => {
    fc.assert(
      fc.property(filter, (input) => {
        expect(parseFilter(JSON.stringify(input))).toEqual(parseFilter(input))
      }),
    )
  })

  test('takes the names of prototype members for ordinary fields', () => {
    for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
      expect(parseFilter(`{"${name}": {"$gt": 2}}`)).toEqual({ op: 'gt', path: [name], bound: 2 })
      expect(parseFilter(`{"a": {"$eq": {"${name}": 2}}}`)).toMatchObject({ op: 'in', path: ['a'] })
    }
  })

  test.each([
    ['not json', 'filter', 'must be JSON'],
    ['', 'filter', 'must be JSON'],
    ['null', 'filter', 'must be an object'],
    ['[]', 'filter', 'must be an object'],
    ['"x"', 'filter', 'must be an object'],
    ['{"a": {"$foo": 1}}', 'filter.a.$foo', 'is not known here'],
    ['{"a": {"$gt": 1, "b": 2}}', 'filter.a.b', 'is not known here'],
    ['{"a": {"constructor": 1, "$gt": 2}}', 'filter.a.constructor', 'is not known here'],
    ['{"a": {"__proto__": {}, "$gt": 2}}', 'filter.a.__proto__', 'is not known here'],
    ['{"a": {"$regex": "x"}}', 'filter.a.$regex', 'is not known here'],
    ['{"$where": "1"}', 'filter.$where', 'is not known here'],
    ['{"$not": {"a": 1}}', 'filter.$not', 'is not known here'],
    ['{"a": {"$and": [{"b": 1}]}}', 'filter.a.$and', 'is not known here'],
    ['{"$and": []}', 'filter.$and', 'at least one'],
    ['{"$or": {"a": 1}}', 'filter.$or', 'must be an array'],
    ['{"$or": [{"a": 1}, null]}', 'filter.$or[1]', 'must be an object'],
    ['{"$or": [{"a": 1}, {"b": {"$gt": null}}]}', 'filter.$or[1].b.$gt', 'a number or a string'],
    ['{"a": {"$gt": true}}', 'filter.a.$gt', 'a number or a string'],
    ['{"a": {"$gt": {"b": 1}}}', 'filter.a.$gt', 'a number or a string'],
    ['{"a": {"$gt": 1e400}}', 'filter.a.$gt', 'must be a number between'],
    ['{"a": [1e400]}', 'filter.a[0]', 'must be a number between'],
    ['{"a": {"$not": {}}}', 'filter.a.$not', 'an object of operators'],
    ['{"a": {"$not": 1}}', 'filter.a.$not', 'an object of operators'],
    ['{"a": {"$not": {"b": 1}}}', 'filter.a.$not.b', 'is not known here'],
    ['{"a": {"$in": 1}}', 'filter.a.$in', 'must be an array'],
    ['{"a": {"$exists": 1}}', 'filter.a.$exists', 'true or false'],
    ['{"a": {"b": {"$gt": 1}}}', 'filter.a.b.$gt', 'dotted path'],
    ['{"a": {"$in": [{"$gt": 1}]}}', 'filter.a.$in[0].$gt', 'dotted path'],
    ['{"": 1}', 'filter.', 'empty segments'],
    ['{"a..b": 1}', 'filter.a..b', 'empty segments'],
    ['{"a.": 1}', 'filter.a.', 'empty segments'],
    ['{"a$b": 1}', 'filter.a$b', 'without $'],
    ['{"a\\u0000": 1}', 'filter.a\u{fffd}', 'NUL'],
    ['{"a\\ud800": 1}', 'filter.a\u{fffd}', 'surrogates'],
    ['{"a": "\\u0000"}', 'filter.a', 'NUL'],
    ['{"a": {"$gt": "\\ud800"}}', 'filter.a.$gt', 'surrogates'],
    ['{"a": [{"b": "\\udc00"}]}', 'filter.a[0].b', 'surrogates'],
    ['{"a": {"\\ud800": 1}}', 'filter.a.\u{fffd}', 'surrogates'],
  ])('refuses %s and names the place', (input, field, message) => {
    const error = refusal(input)
    expect(error).toMatchObject({ code: 'INVALID_FILTER', status: 400 })
    expect(error.details).toEqual([{ field, message: expect.stringContaining(message) }])
  })

  test('refuses what is no JSON value', () => {
    for (const value of [undefined, new Date(), 1n, Number.NaN, () => 1, /x/, new Map()]) {
      expect(refusal({ a: value })).toMatchObject({ code: 'INVALID_FILTER' })
      expect(refusal(value)).toMatchObject({ code: 'INVALID_FILTER' })
    }
  })

  test('holds depth, conditions, values and path length to their bounds', () => {
    parseFilter(nested(20))
    parseFilter(deepValue(20))
    for (const text of [nested(21), nested(100_000), deepValue(21), deepValue(100_000)]) {
      expect(refusal(text).message).toContain('at most 20 levels')
    }
    const conditions = (count: number) => ({ $or: Array.from({ length: count }, () => ({ a: 1 })) })
    parseFilter(conditions(199))
    expect(refusal(conditions(200)).message).toContain('at most 200')
    expect(refusal({ $or: Array.from({ length: 100_000 }, () => ({})) }).message).toContain('at most 200')
    parseFilter({ a: { $in: Array.from({ length: 1000 }, (_, i) => i) } })
    expect(refusal({ a: { $in: Array.from({ length: 1001 }, (_, i) => i) } }).message).toContain(
      'at most 1000',
    )
    parseFilter({ ['é'.repeat(200)]: 1 })
    const long = refusal({ ['é'.repeat(100_000)]: 1 })
    expect(long.message).toContain('at most 200 characters')
    expect(long.message.length).toBeLessThan(500)
  })

  test('answers any JSON at all with a filter or INVALID_FILTER', () => {
    const keys = [
      ...KEYS,
      '$and',
      '$or',
      '$nor',
      '$not',
      '$eq',
      '$in',
      '$gt',
      '$exists',
      '$foo',
      '$',
      'a.b',
      '.',
    ]
    const value = fc.letrec((tie) => ({
      any: fc.oneof(
        { maxDepth: 6 },
        fc.jsonValue(),
        fc.array(tie('any'), { maxLength: 3 }),
        fc.dictionary(fc.constantFrom(...keys), tie('any'), { maxKeys: 3 }),
      ),
    })).any
    fc.assert(
      fc.property(value, (input) => {
        try {
          parseFilter(input)
        } catch (error) {
          expect(error).toMatchObject({ code: 'INVALID_FILTER' })
        }
      }),
      { numRuns: 2000 },
    )
  })
})

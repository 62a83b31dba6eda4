import fc from 'fast-check'
import { expect, test } from 'vitest'
import { both, everything, type Filter } from '../../../src/server/filter/ast.js'
import { matches } from '../../../src/server/filter/matches.js'
import { parseFilter } from '../../../src/server/filter/parse.js'
import { printFilter } from '../../../src/server/filter/print.js'
import { body, filter } from './arbitraries.js'

const printed = (meant: Filter) => JSON.stringify(printFilter(meant))

test('any filter, and two of them at once, printed mean what they meant', () => {
  fc.assert(
    fc.property(filter, filter, fc.array(body, { minLength: 1, maxLength: 5 }), (left, right, items) => {
      for (const meant of [parseFilter(left), both(parseFilter(left), parseFilter(right))]) {
        const read = parseFilter(printed(meant))
        expect(printed(read)).toBe(printed(meant))
        expect(items.map((item) => matches(read, item))).toEqual(items.map((item) => matches(meant, item)))
      }
    }),
    { numRuns: 500 },
  )
})

test.each([
  [{}, '{}'],
  [{ a: 1, 'b.c': { $ne: 'x' } }, '{"a":{"$in":[1]},"b.c":{"$nin":["x"]}}'],
  [{ a: { $gt: 1, $lt: 5 } }, '{"$and":[{"a":{"$gt":1}},{"a":{"$lt":5}}]}'],
  [{ $nor: [{ a: 1 }, { b: 2 }] }, '{"$nor":[{"a":{"$in":[1]}},{"b":{"$in":[2]}}]}'],
  [{ a: { $exists: false } }, '{"a":{"$exists":false}}'],
])('%j is printed as %s', (input, text) => {
  expect(printed(parseFilter(input))).toBe(text)
})

test('a filter as deep as any may be is printed no deeper', () => {
  const deep = (depth: number): object => (depth === 0 ? { x: 1 } : { x: 1, $or: [deep(depth - 1)] })
  expect(() => parseFilter(printed(parseFilter(deep(20))))).not.toThrow()
})

test('filters that the language has no words for pass the same items', () => {
  const none: Filter = { op: 'or', of: [] }
  const item = { id: 'a' }
  expect(matches(parseFilter(printed(none)), item)).toBe(false)
  expect(matches(parseFilter(printed({ op: 'not', of: none })), item)).toBe(true)
  expect(matches(parseFilter(printed(everything)), item)).toBe(true)
})

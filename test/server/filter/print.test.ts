import fc from 'fast-check'
import { expect, test } from 'vitest'
import { matches } from '../../../src/server/filter/matches.js'
import { parseFilter } from '../../../src/server/filter/parse.js'
import { printFilter } from '../../../src/server/filter/print.js'
import type { Json } from '../../../src/server/schemas/item.js'
import { filter as anyFilter, body } from './arbitraries.js'

test('a printed filter is read again as one that means the same and prints the same', () => {
  fc.assert(
    fc.property(anyFilter, fc.array(body, { maxLength: 5 }), (input, items) => {
      const filter = parseFilter(input)
      const printed = printFilter(filter)
      // As text, as it is stored: -0 becomes 0 there.
      const text = JSON.stringify(printed)
      const again = parseFilter(text)
      expect(JSON.stringify(printFilter(again))).toBe(text)
      for (const item of items as Json[]) expect(matches(again, item)).toBe(matches(filter, item))
    }),
  )
})

test.each([
  [{}, {}],
  [{ a: 1 }, { a: { $in: [1] } }],
  [{ 'a.b': { $ne: null } }, { $nor: [{ 'a.b': { $in: [null] } }] }],
  [{ $nor: [{ a: 1 }, { b: 2 }] }, { $nor: [{ a: { $in: [1] } }, { b: { $in: [2] } }] }],
  [{ a: { $gte: 'x' }, b: { $exists: true } }, { $and: [{ a: { $gte: 'x' } }, { b: { $exists: true } }] }],
])('%j is printed as %j', (input, printed) => {
  expect(printFilter(parseFilter(input))).toEqual(printed)
})

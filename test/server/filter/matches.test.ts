import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { compareCodePoints } from '../../../src/server/filter/compare.js'
import { matches } from '../../../src/server/filter/matches.js'
import { parseFilter } from '../../../src/server/filter/parse.js'
import type { Json } from '../../../src/server/schemas/item.js'

const passes = (filter: object, item: Json) => matches(parseFilter(filter), item)

// Each line is an example that MongoDB answers the same way.
describe('matches', () => {
  test.each<[object, Json, boolean]>([
    [{}, {}, true],
    [{ a: null }, {}, true],
    [{ a: null }, { a: null }, true],
    [{ a: null }, { a: 0 }, false],
    [{ a: null }, { a: [1, null] }, true],
    [{ a: { $exists: true } }, { a: null }, true],
    [{ a: { $exists: false } }, {}, true],
    [{ a: { $ne: 1 } }, {}, true],
    [{ a: { $ne: null } }, {}, false],
    [{ a: { $nin: [1, 2] } }, {}, true],
    [{ a: { $nin: [1, null] } }, {}, false],
    [{ a: { $not: { $gt: 1 } } }, {}, true],
    [{ a: { $not: { $gt: 1 } } }, { a: 'x' }, true],
    [{ $nor: [{ a: 1 }] }, {}, true],
    [{ a: { $in: [] } }, { a: 1 }, false],
    [{ a: { $nin: [] } }, { a: 1 }, true],
    [{ a: 1 }, { a: [2, 1] }, true],
    [{ a: [2, 1] }, { a: [2, 1] }, true],
    [{ a: [2, 1] }, { a: [[2, 1]] }, true],
    [{ a: [2, 1] }, { a: [[[2, 1]]] }, false],
    [{ a: { $ne: 1 } }, { a: [2, 1] }, false],
    [{ a: { $gt: 1 } }, { a: [0, 2] }, true],
    // Each operator may find another element.
    [{ a: { $gt: 1, $lt: 1 } }, { a: [0, 2] }, true],
    [{ a: { $gt: 1 } }, { a: '2' }, false],
    [{ a: { $gte: '' } }, { a: 5 }, false],
    [{ a: { $lt: 1 } }, { a: null }, false],
    [{ a: 1 }, { a: true }, false],
    [{ a: 1 }, { a: '1' }, false],
    [{ 'a.b': 1 }, { a: { b: 1 } }, true],
    [{ 'a.0': 1 }, { a: [1] }, true],
    [{ 'a.0': 1 }, { a: { 0: 1 } }, true],
    [{ 'a.0.b': 1 }, { a: [{ b: 1 }] }, true],
    [{ a: { b: 1 } }, { a: { b: 1, c: 2 } }, false],
    [{ toString: null }, {}, true],
    [{ constructor: { $exists: false } }, {}, true],
  ])('%j on %j is %s', (filter, item, expected) => {
    expect(passes(filter, item)).toBe(expected)
  })

  test('differs from MongoDB where docs/filter.md says so', () => {
    expect(passes({ 'a.b': 1 }, { a: [{ b: 1 }] })).toBe(false)
    expect(passes({ 'a.-1': 2 }, { a: [1, 2] })).toBe(true)
    expect(passes({ a: { b: 1, c: 2 } }, { a: { c: 2, b: 1 } })).toBe(true)
  })
})

test('strings compare by code point, as their UTF-8 bytes do', () => {
  expect(compareCodePoints('\u{ff5e}', '\u{1f600}')).toBeLessThan(0)
  const text = fc.string({ unit: 'binary', maxLength: 4 })
  fc.assert(
    fc.property(text, text, (left, right) => {
      expect(Math.sign(compareCodePoints(left, right))).toBe(
        Buffer.compare(Buffer.from(left), Buffer.from(right)),
      )
    }),
  )
})

test('a long array is looked up in many values, not compared with each', () => {
  const values = Array.from({ length: 1000 }, (_, n) => n)
  const wanted = [...values, ...values.map((n) => ({ n, m: [n] }))].filter((_, index) => index % 2 === 1)
  const filter = parseFilter({ a: { $in: wanted } })
  const began = performance.now()
  expect(matches(filter, { a: new Array(300_000).fill(2) })).toBe(false)
  expect(matches(filter, { a: [...new Array(50_000).fill({ n: 2, m: [2] }), { m: [3], n: 3 }] })).toBe(true)
  // Compared with each, it is tens of seconds.
  expect(performance.now() - began).toBeLessThan(3000)
})

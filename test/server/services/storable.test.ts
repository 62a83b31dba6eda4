import { expect, test } from 'vitest'
import { MAX_DEPTH, storageFault } from '../../../src/server/services/storable.js'

const nested = (depth: number): unknown => (depth === 0 ? 1 : { a: nested(depth - 1) })

test.each([
  ['U+0000 in a text', { a: { b: 'x\u0000' } }, 'body.a.b'],
  ['half of a surrogate pair', { a: ['ok', '\ud800'] }, 'body.a[1]'],
  ['U+0000 in a key', { a: { 'k\u0000': 1 } }, 'body.a key'],
  ['a number beyond a double', { a: [{ n: Number.POSITIVE_INFINITY }] }, 'body.a[0].n'],
])('%s is told with its place', (_what, value, field) => {
  expect(storageFault(value, 'body')).toMatchObject({ field })
})

test('values of every kind can be stored, down to the deepest level', () => {
  const value = { text: 'é😀', none: null, yes: true, number: -1.5, list: [null, false, 'x', [], {}] }
  expect(storageFault(value, 'body')).toBeUndefined()
  expect(storageFault(nested(MAX_DEPTH), 'body')).toBeUndefined()
  expect(storageFault(nested(MAX_DEPTH + 1), 'body')).toMatchObject({
    message: expect.stringContaining('90'),
  })
})

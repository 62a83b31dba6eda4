import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DualstoreError } from '../../../src/server/errors.js'
import { decodeCursor, encodeCursor, fingerprint, parseSort } from '../../../src/server/filter/cursor.js'

const sort = parseSort('metadata.model', 'desc')
const selection = fingerprint({ filter: { a: 1 } })
const key = ['3', '0', 'gpt', 'msg_1']
const cursor = encodeCursor(sort, selection, key)
const packed = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

describe('cursor', () => {
  test('gives back any key it was made of', () => {
    const text = fc.string({ unit: 'binary' }).filter((value) => !value.includes('\0'))
    fc.assert(
      fc.property(fc.bigInt(), text, text, (number, value, id) => {
        const field = ['4', `${number}.05`, value, id]
        expect(decodeCursor(encodeCursor(sort, selection, field), sort, selection)).toEqual(field)
      }),
    )
    const byTime = parseSort('created_at', 'asc')
    expect(decodeCursor(encodeCursor(byTime, selection, ['-5', 'x']), byTime, selection)).toEqual(['-5', 'x'])
  })

  test('is refused by a list of another field, order or selection', () => {
    for (const [other, from] of [
      [parseSort('metadata.size', 'desc'), selection],
      [parseSort('metadata.model', 'asc'), selection],
      [sort, fingerprint({ filter: { a: 2 } })],
    ] as const) {
      expect(() => decodeCursor(cursor, other, from)).toThrow(/query.cursor comes from a list with another/)
    }
  })

  test.each([
    ['', 'nothing'],
    ['%%%', 'no base64url'],
    [`${cursor}=`, 'padding'],
    [` ${cursor}`, 'white space'],
    [cursor.slice(0, -3), 'a part'],
    [Buffer.from([0xff, 0xfe]).toString('base64url'), 'no UTF-8'],
    [packed(null), 'null'],
    [packed({}), 'an object'],
    [packed(['metadata.model', 'desc', selection]), 'no key'],
    [packed(['metadata.model', 'desc', selection, '3', '0', 'gpt']), 'a short key'],
    [packed(['metadata.model', 'desc', selection, ...key, 'more']), 'a long key'],
    [packed(['metadata.model', 'desc', selection, 3, '0', 'gpt', 'x']), 'a number'],
    [packed(['metadata.model', 'desc', selection, '9', '0', 'gpt', 'x']), 'an unknown type'],
    [packed(['metadata.model', 'desc', selection, '2', "1'; DROP", '', 'x']), 'no number'],
    [packed(['metadata.model', 'desc', selection, '2', 'NaN', '', 'x']), 'NaN'],
    [packed(['metadata.model', 'desc', selection, '3', '0', 'a\0', 'x']), 'a NUL'],
  ])('%s (%s) is INVALID_CURSOR', (text) => {
    try {
      decodeCursor(text, sort, selection)
      expect.unreachable()
    } catch (error) {
      expect(error).toBeInstanceOf(DualstoreError)
      expect(error).toMatchObject({
        code: 'INVALID_CURSOR',
        status: 400,
        details: [{ field: 'query.cursor' }],
      })
    }
  })

  test('any text is a key or INVALID_CURSOR', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.base64String(), fc.jsonValue().map(packed)), (text) => {
        expect(() => decodeCursor(text, sort, selection)).toThrow(DualstoreError)
      }),
    )
  })
})

test('a bad sort_by is refused by its name', () => {
  for (const field of ['', 'a..b', '$a', 'a\0', 'x'.repeat(201)]) {
    expect(() => parseSort(field, 'asc')).toThrow(/^query.sort_by must be a path/)
  }
})

import { expect, test } from 'vitest'
import { mayBeArray } from '../../../src/server/store/may-be-array.js'

const string = { type: 'string' }

test.each([
  ['a', { properties: { a: string } }, false],
  ['a', { properties: { a: { type: ['string', 'null'] } } }, false],
  ['a', { properties: { a: { type: ['string', 'array'] } } }, true],
  ['a', { properties: { a: { type: 'array' } } }, true],
  ['a', { properties: { a: { enum: ['x', 1] } } }, false],
  ['a', { properties: { a: { enum: ['x', []] } } }, true],
  ['a', { properties: { a: { const: 'x' } } }, false],
  ['a', { properties: { a: { $ref: '#/x', ...string } } }, true],
  ['a', { properties: { a: {} } }, true],
  ['a', { properties: { a: true } }, true],
  ['a', {}, true],
  ['a', true, true],
  ['a', undefined, true],
  ['toString', { properties: {} }, true],
  ['a.b', { properties: { a: { properties: { b: string } } } }, false],
  ['a.b', { properties: { a: { items: { properties: { b: string } } } } }, true],
  // An element of an array is not the property of the same name.
  ['a.0', { properties: { a: { properties: { 0: string } } } }, true],
  ['a.0', { properties: { a: { type: 'object', properties: { 0: string } } } }, false],
  ['0', { properties: { 0: string } }, false],
  ['id', {}, false],
  ['created_at', {}, false],
  ['updated_at', {}, false],
  ['id.x', {}, true],
])('%s in %j may be an array: %s', (path, schema, expected) => {
  expect(mayBeArray(schema, path.split('.'))).toBe(expected)
})

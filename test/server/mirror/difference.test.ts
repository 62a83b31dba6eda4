import { Long, ObjectId } from 'mongodb'
import { expect, test } from 'vitest'
import { differencesOf } from '../../../src/server/mirror/difference.js'

test('documents that differ in the order of their members alone do not differ', () => {
  expect(differencesOf({ a: 1, b: { c: [1, 2], d: null } }, { b: { d: null, c: [1, 2] }, a: 1 })).toEqual([])
})

test.each([
  ['a value', { a: 'x' }, { a: 'y' }, { path: 'a', ours: '"x"', theirs: '"y"' }],
  ['a number that is a text', { a: 1 }, { a: '1' }, { path: 'a', ours: '1', theirs: '"1"' }],
  ['a text that is null', { a: '' }, { a: null }, { path: 'a', ours: '""', theirs: 'null' }],
  ['a member too many', {}, { a: { b: 1 } }, { path: 'a', theirs: '{"b":1}' }],
  ['a member that is missing', { a: { b: false, c: 1 } }, { a: { c: 1 } }, { path: 'a.b', ours: 'false' }],
  ['an array', { a: [1] }, { a: { 0: 1 } }, { path: 'a', ours: '[1]', theirs: '{"0":1}' }],
  [
    'a date that is not its text',
    { at: '2026-01-01T00:00:00.000Z' },
    { at: new Date('2026-01-01') },
    { path: 'at', ours: '"2026-01-01T00:00:00.000Z"', theirs: 'Date 2026-01-01T00:00:00.000Z' },
  ],
  [
    'an ObjectId',
    { a: 1 },
    { a: new ObjectId('507f1f77bcf86cd799439011') },
    { path: 'a', ours: '1', theirs: 'ObjectId 507f1f77bcf86cd799439011' },
  ],
  [
    'a long beyond what a number holds',
    { a: 1 },
    { a: Long.MAX_VALUE },
    { path: 'a', ours: '1', theirs: 'Long 9223372036854775807' },
  ],
  ['what is no number', { a: 1 }, { a: Number.NaN }, { path: 'a', ours: '1', theirs: 'NaN' }],
])('%s is told with its place and both values', (_what, ours, theirs, difference) => {
  expect(differencesOf(ours, theirs)).toEqual([difference])
})

test('long values are cut, and of many places the first are told', () => {
  const [difference] = differencesOf({ a: '😀'.repeat(1000) }, {})
  expect(difference?.ours).toHaveLength(200)
  expect(difference?.ours?.isWellFormed()).toBe(true)
  const many = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`f${index}`, index]))
  expect(differencesOf(many, {})).toHaveLength(20)
})

import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  formatKey,
  hashSecret,
  isKeyId,
  newKeyId,
  newSecret,
  parseKey,
  withoutSecrets,
} from '../../../src/server/services/key-format.js'

const fresh = () => ({ id: newKeyId(), secret: newSecret() })

test('a fresh key has the documented form and is taken apart again', () => {
  for (let count = 0; count < 500; count++) {
    const parts = fresh()
    const key = formatKey(parts)
    expect(key).toMatch(/^dsk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}$/)
    expect(parseKey(key)).toEqual(parts)
    expect(isKeyId(parts.id)).toBe(true)
  }
})

test('a thousand fresh ids and secrets are all different, and use every digit', () => {
  const keys = Array.from({ length: 1000 }, fresh)
  expect(new Set(keys.map(({ id }) => id)).size).toBe(1000)
  expect(new Set(keys.map(({ secret }) => secret)).size).toBe(1000)
  // The first digit of 43 holds less than six bits of the 256.
  const digits = new Set(keys.flatMap(({ secret }) => [...secret.slice(1)]))
  expect(digits.size).toBe(62)
})

test('any single character that is changed makes it no key', () => {
  const key = formatKey(fresh())
  const position = fc.integer({ min: 0, max: key.length - 1 })
  const character = fc.constantFrom(
    ...'0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_- \u0000é',
  )
  fc.assert(
    fc.property(position, character, (at, other) => {
      fc.pre(key[at] !== other)
      expect(parseKey(key.slice(0, at) + other + key.slice(at + 1))).toBeUndefined()
    }),
  )
})

test.each([
  '',
  'dsk_',
  'dsk__',
  'secret-1',
  'DSK_000000000000_0000000000000000000000000000000000000000000000000',
  'dsk_000000000000_0000000000000000000000000000000000000000000000000',
  `dsk_${'0'.repeat(100_000)}`,
])('%j is no key', (text) => {
  expect(parseKey(text)).toBeUndefined()
})

test('a newline behind a key is not part of one', () => {
  expect(parseKey(`${formatKey(fresh())}\n`)).toBeUndefined()
})

test('a hash tells nothing of its secret but whether it is the same', () => {
  const { secret } = fresh()
  expect(hashSecret(secret)).toEqual(hashSecret(secret))
  expect(hashSecret(secret).length).toBe(32)
  expect(hashSecret(secret).toString('latin1')).not.toContain(secret)
})

test('of a key in a text the id stays and the secret goes', () => {
  const parts = fresh()
  const key = formatKey(parts)
  const text = withoutSecrets(`{"url":"/api/v1/${key}?k=${key}","half":"${key.slice(0, 40)}"}`)
  expect(text).not.toContain(parts.secret.slice(0, 10))
  expect(text).toBe(
    `{"url":"/api/v1/dsk_${parts.id}_***?k=dsk_${parts.id}_***","half":"dsk_${parts.id}_***"}`,
  )
  expect(withoutSecrets('nothing of the kind')).toBe('nothing of the kind')
})

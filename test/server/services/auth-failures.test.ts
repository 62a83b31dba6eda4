import { expect, test } from 'vitest'
import { createAuthFailures } from '../../../src/server/services/auth-failures.js'

const start = 1_800_000_000_000

function failures(perMinute: number) {
  let now = start
  const service = createAuthFailures({ perMinute, now: () => now })
  return { ...service, pass: (ms: number) => (now += ms) }
}

test('after so many failures an address waits, and no other', () => {
  const { waitMs, failed } = failures(3)
  for (let count = 0; count < 3; count++) {
    expect(waitMs('a', 'guess')).toBe(0)
    failed('a', `guess ${count}`)
  }
  expect(waitMs('a', 'guess')).toBe(20_000)
  expect(waitMs('b', 'guess')).toBe(0)
})

test('it may try again at the pace that failures melt away, and never gathers more tries than the bound', () => {
  const { waitMs, failed, pass } = failures(3)
  for (let count = 0; count < 3; count++) failed('a', 'guess')
  pass(19_999)
  expect(waitMs('a', 'guess')).toBeGreaterThan(0)
  pass(1)
  expect(waitMs('a', 'guess')).toBe(0)
  failed('a', 'guess')
  expect(waitMs('a', 'guess')).toBe(20_000)
  pass(3_600_000)
  for (let count = 0; count < 3; count++) failed('a', 'guess')
  expect(waitMs('a', 'guess')).toBeGreaterThan(0)
})

test('what has just been right goes through from there and only there, until it is wrong', () => {
  const { waitMs, failed, succeeded } = failures(1)
  succeeded('a', 'good')
  failed('a', 'guess')
  failed('b', 'guess')
  expect(waitMs('a', 'good')).toBe(0)
  expect(waitMs('a', 'guess')).toBeGreaterThan(0)
  expect(waitMs('b', 'good')).toBeGreaterThan(0)
  failed('a', 'good')
  expect(waitMs('a', 'good')).toBeGreaterThan(0)
})

test('0 is no limit', () => {
  const { waitMs, failed } = failures(0)
  for (let count = 0; count < 100; count++) failed('a', 'guess')
  expect(waitMs('a', 'guess')).toBe(0)
})

test('a flood of addresses costs bounded memory', () => {
  const { waitMs, failed } = failures(1)
  for (let count = 0; count < 100_000; count++) failed(`address ${count}`, 'guess')
  expect(waitMs('address 0', 'guess')).toBe(0)
  expect(waitMs('address 99999', 'guess')).toBeGreaterThan(0)
})

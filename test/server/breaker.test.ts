import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type Breaker, createBreaker } from '../../src/server/breaker.js'

/** A store that is there or away, looks that end when told, and a breaker in front of it. */
let away: boolean
let looks: number
let told: string[]
let breaker: Breaker

beforeEach(() => {
  vi.useFakeTimers()
  away = false
  looks = 0
  told = []
  breaker = createBreaker({
    pauseMs: 100,
    async probe() {
      looks++
      if (away) throw new Error('no answer')
    },
    refuse: (reason) => new Error('refused', { cause: reason }),
    onOpened: () => told.push('opened'),
    onStillAway: () => told.push('still away'),
    onClosed: () => told.push('closed'),
  })
})
afterEach(() => {
  breaker.stop()
  vi.useRealTimers()
})
const settle = () => vi.advanceTimersByTimeAsync(0)

test('a failure alone opens nothing: the look decides', async () => {
  breaker.look()
  await settle()
  expect([breaker.state, looks, told]).toEqual(['closed', 1, []])
  expect(() => breaker.check()).not.toThrow()
})

test('doubts that come while it looks share the look', async () => {
  for (let count = 0; count < 10; count++) breaker.look()
  await settle()
  expect(looks).toBe(1)
})

test('a look that fails opens it, and it closes by itself when the store is back', async () => {
  away = true
  breaker.look()
  await settle()
  expect([breaker.state, breaker.reason, breaker.opened]).toEqual(['open', 'no answer', 1])
  expect(() => breaker.check()).toThrow('refused')
  await vi.advanceTimersByTimeAsync(250)
  expect(told).toEqual(['opened', 'still away', 'still away'])
  away = false
  await vi.advanceTimersByTimeAsync(100)
  expect([breaker.state, breaker.reason, told.at(-1)]).toEqual(['closed', undefined, 'closed'])
  await vi.advanceTimersByTimeAsync(1000)
  expect(looks).toBe(4)
})

test('opened from outside it looks at once', async () => {
  breaker.open(new Error('silence'))
  expect([breaker.state, breaker.reason]).toEqual(['half_open', 'silence'])
  await settle()
  expect(told).toEqual(['opened', 'closed'])
})

test('stopped it looks no more', async () => {
  away = true
  breaker.open(new Error('silence'))
  breaker.stop()
  await vi.advanceTimersByTimeAsync(1000)
  expect(looks).toBe(1)
})

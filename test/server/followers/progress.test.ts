import { describe, expect, test } from 'vitest'
import { createProgress } from '../../../src/server/followers/progress.js'

/** Longer than a test may take: what resolves only when this has passed fails. */
const NEVER_MS = 600_000
const paused = { halted: 'is paused', rebuilding: false }

describe('waiting for a follower', () => {
  test('ends when it has got there', async () => {
    const progress = createProgress()
    const there = progress.reached(7, NEVER_MS)
    progress.advance(6)
    progress.advance(8)
    expect(await there).toBe(true)
    expect(progress.awaited).toBe(false)
    expect(await progress.reached(8, NEVER_MS)).toBe(true)
  })

  test('ends when the time is up', async () => {
    expect(await createProgress().reached(1, 1)).toBe(false)
  })

  test('ends at once when it is halted meanwhile, and when it was halted before', async () => {
    const progress = createProgress()
    progress.advance(3)
    const waiting = progress.reached(4, NEVER_MS)
    progress.ordered(paused)
    expect(await waiting).toBe(false)
    expect(await progress.reached(4, NEVER_MS)).toBe(false)
    expect(await progress.reached(3, NEVER_MS)).toBe(true)
  })
})

/** Seeded numbers in [0, 1), so that a run that failed can be repeated (mulberry32). */
export function createRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Draws from one seeded row of numbers. */
export interface Draw {
  /** An integer from 0 up to but not including `limit`. */
  below(limit: number): number
  from<T>(values: readonly T[]): T
  /** True with this probability. */
  chance(share: number): boolean
}

export function createDraw(seed: number): Draw {
  const random = createRandom(seed)
  const below = (limit: number) => Math.floor(random() * limit)
  return {
    below,
    from: <T>(values: readonly T[]) => values[below(values.length)] as T,
    chance: (p) => random() < p,
  }
}

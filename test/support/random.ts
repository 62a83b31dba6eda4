/** Numbers that are the same for the same seed. */
export interface Random {
  /** From 0 up to, and without, 1. */
  next(): number
  /** A whole number from 0 up to, and without, `end`. */
  below(end: number): number
  pick<T>(values: readonly T[]): T
  /** Lower-case letters and digits. */
  letters(count: number): string
}

const LETTERS = 'abcdefghijklmnopqrstuvwxyz0123456789'

/** A small generator with 32 bits of state: a counter (Weyl sequence) whose values are mixed (as in MurmurHash3). */
export function randomOf(seed: string): Random {
  let state = 2166136261
  for (let index = 0; index < seed.length; index++) {
    state = Math.imul(state ^ seed.charCodeAt(index), 16777619)
  }
  const next = () => {
    state = (state + 0x9e3779b9) | 0
    let mixed = Math.imul(state ^ (state >>> 16), 0x85ebca6b)
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
    return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32
  }
  const below = (end: number) => Math.floor(next() * end)
  return {
    next,
    below,
    pick: (values) => values[below(values.length)] as (typeof values)[number],
    letters: (count) => Array.from({ length: count }, () => LETTERS[below(LETTERS.length)]).join(''),
  }
}

/** The middle of some numbers. */
export function median(values: readonly number[]): number {
  const sorted = Float64Array.from(values).sort()
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2
}

/**
 * How far apart two medians come to be by chance alone: the differences that random halves of one pool have, of which
 * all but the given share are below the answer.
 */
export function medianNoise(pool: readonly number[], share: number, permutations = 1000): number {
  const values = Float64Array.from(pool)
  const half = values.length >> 1
  const differences = Array.from({ length: permutations }, () => {
    shuffle(values)
    return Math.abs(median([...values.subarray(0, half)]) - median([...values.subarray(half)]))
  }).sort((a, b) => a - b)
  return differences[Math.ceil(permutations * (1 - share)) - 1] as number
}

/** The test of Mann and Whitney, as a standard normal deviate: beyond ±3.3 one time in a thousand by chance. */
export function mannWhitney(left: readonly number[], right: readonly number[]): number {
  const all = [
    ...left.map((value) => ({ value, isLeft: true })),
    ...right.map((value) => ({ value, isLeft: false })),
  ].sort((a, b) => a.value - b.value)
  let rankSum = 0
  for (let begin = 0; begin < all.length; ) {
    let end = begin
    while (end < all.length && all[end]?.value === all[begin]?.value) end++
    // Equal values share their ranks.
    const rank = (begin + 1 + end) / 2
    for (let at = begin; at < end; at++) if (all[at]?.isLeft) rankSum += rank
    begin = end
  }
  const [n, m] = [left.length, right.length]
  const u = rankSum - (n * (n + 1)) / 2
  return (u - (n * m) / 2) / Math.sqrt((n * m * (n + m + 1)) / 12)
}

export function shuffle<T extends { length: number; [index: number]: unknown }>(values: T): T {
  for (let at = values.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1))
    const kept = values[at]
    values[at] = values[other]
    values[other] = kept
  }
  return values
}

/**
 * What several sequences give, in the order in which it comes. Each is asked for its next element when the last one
 * was taken, so that no more than one of each waits. All are ended when one fails or the reader goes away.
 */
export async function* merge<T>(sequences: readonly AsyncGenerator<T>[]): AsyncGenerator<T> {
  const waiting = new Map<AsyncGenerator<T>, Promise<{ of: AsyncGenerator<T>; next: IteratorResult<T> }>>()
  const ask = (of: AsyncGenerator<T>) => {
    const answer = of.next().then((next) => ({ of, next }))
    // Of two that fail at once only one is told.
    answer.catch(() => {})
    waiting.set(of, answer)
  }
  try {
    for (const sequence of sequences) ask(sequence)
    while (waiting.size > 0) {
      const { of, next } = await Promise.race(waiting.values())
      waiting.delete(of)
      if (next.done) continue
      yield next.value
      ask(of)
    }
  } finally {
    await Promise.allSettled(sequences.map((sequence) => sequence.return(undefined)))
  }
}

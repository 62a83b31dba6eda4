/** Reads the next piece while the last one is worked on. The source is ended when the reader goes away. */
export async function* readAhead<T>(source: AsyncIterable<T>): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]()
  const read = () => {
    const next = iterator.next()
    // Looked at in a moment; until then a failure is nobody's.
    next.catch(() => {})
    return next
  }
  try {
    for (let next = read(); ; ) {
      const { value, done } = await next
      if (done) return
      next = read()
      yield value
    }
  } finally {
    await iterator.return?.()
  }
}

/**
 * Shares readings of what changes: whoever asks while one is under way may have written after it began, and waits for
 * the next, which all who ask meanwhile share. However many ask, one reading at a time is under way.
 */
export function sharedReading<T>(read: () => Promise<T>): () => Promise<T> {
  let reading: Promise<unknown> | undefined
  let next: Promise<T> | undefined
  return () => {
    next ??= (reading ?? Promise.resolve())
      .catch(() => {})
      .then(() => {
        reading = next
        next = undefined
        return read()
      })
    return next
  }
}

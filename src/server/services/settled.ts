/** What became of some work that is done at once, as Promise.allSettled tells it. */
export function attempt<T>(work: () => T): PromiseSettledResult<T> {
  try {
    return { status: 'fulfilled', value: work() }
  } catch (error) {
    return refused(error)
  }
}

export function refused(reason: unknown): PromiseRejectedResult {
  return { status: 'rejected', reason }
}

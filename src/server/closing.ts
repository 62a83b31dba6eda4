/** Collects what must be closed; closing runs in reverse, once, and keeps the first error. */
export interface Closers {
  /** Registers the closing of what was just opened. */
  add(close: () => void | Promise<void>): void
  close(): Promise<void>
}

export function createClosers(): Closers {
  const closers: (() => void | Promise<void>)[] = []
  let closing: Promise<void> | undefined
  const closeAll = async () => {
    let failed = false
    let first: unknown
    for (let close = closers.pop(); close !== undefined; close = closers.pop()) {
      try {
        await close()
      } catch (error) {
        if (!failed) first = error
        failed = true
      }
    }
    if (failed) throw first
  }
  return {
    add: (close) => void closers.push(close),
    close: () => {
      closing ??= closeAll()
      return closing
    },
  }
}

/** How far a follower has got, as far as this process knows, and the wish to be told (I10). */
export interface Progress {
  readonly position: number
  /** True while the last attempt to apply something failed. */
  readonly failing: boolean
  readonly lastError: string | undefined
  /** Why nothing is applied on purpose: "is paused", "is lost: …"; undefined when it runs. */
  readonly halted: string | undefined
  /** True while what is mirrored is being built anew, so that it may lack what its position says. */
  readonly rebuilding: boolean
  /** Resolves true when the follower has reached `seq`, false after `timeoutMs` or as soon as it is halted. */
  reached(seq: number, timeoutMs: number): Promise<boolean>
  /** True while somebody waits: a standby then looks at the stored position more often. */
  readonly awaited: boolean
}

export interface MutableProgress extends Progress {
  /** Notes a position, whoever reached it. */
  advance(position: number): void
  /** Notes that applying works (again). */
  succeeded(): void
  failed(message: string): void
  /** Notes what an operator wants. */
  ordered(orders: Pick<Progress, 'halted' | 'rebuilding'>): void
}

interface Waiter {
  seq: number
  resolve(reached: boolean): void
}

export function createProgress(): MutableProgress {
  const waiters = new Set<Waiter>()
  let position = 0
  let lastError: string | undefined
  let orders: Pick<Progress, 'halted' | 'rebuilding'> = { halted: undefined, rebuilding: false }
  return {
    get position() {
      return position
    },
    get failing() {
      return lastError !== undefined
    },
    get lastError() {
      return lastError
    },
    get halted() {
      return orders.halted
    },
    get rebuilding() {
      return orders.rebuilding
    },
    get awaited() {
      return waiters.size > 0
    },
    succeeded() {
      lastError = undefined
    },
    advance(to) {
      position = Math.max(position, to)
      for (const waiter of waiters) if (waiter.seq <= position) waiter.resolve(true)
    },
    failed(message) {
      lastError = message
    },
    ordered(given) {
      orders = given
      if (given.halted !== undefined) for (const waiter of waiters) waiter.resolve(false)
    },
    reached(seq, timeoutMs) {
      if (seq <= position) return Promise.resolve(true)
      // Who asked before it was halted asks here only when the write is done.
      if (orders.halted !== undefined) return Promise.resolve(false)
      return new Promise((resolve) => {
        const waiter: Waiter = {
          seq,
          resolve(reached) {
            clearTimeout(timer)
            waiters.delete(waiter)
            resolve(reached)
          },
        }
        const timer = setTimeout(() => waiter.resolve(false), timeoutMs)
        waiters.add(waiter)
      })
    },
  }
}

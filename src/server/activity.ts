import { AsyncLocalStorage } from 'node:async_hooks'

/** A step of something that is done: a statement, an operation on the mirror, the wait for one of them. */
export interface Operation {
  /** Of a small set, such as "write_documents": never a value of a request. */
  name: string
  /** Whom it waits for; a step of this server itself waits for nobody. */
  store?: Store
  attributes?: Readonly<Record<string, string | number>>
}

export type Store = 'postgresql' | 'mongodb' | 'cache'

/** How a step is recorded; what implements it is loaded only when somebody wants traces. */
export interface Span {
  /** A step of this one, which others may wait for too. */
  child(operation: Operation, alsoFor?: readonly Span[]): Span
  /** Notes that what was written is in the log, at this position at the latest: whoever applies it can be found by it. */
  wrote(position: number): void
  end(error?: unknown): void
}

/** Milliseconds spent waiting, by whom it was waited for. Steps beside each other all count. */
export type Timings = Partial<Record<Store, number>>

/** Something that is watched while it is done, such as a request. */
export class Activity {
  readonly span: Span | undefined
  readonly timings: Timings | undefined

  constructor(span: Span | undefined, timings: Timings | undefined) {
    this.span = span
    this.timings = timings
  }

  /** Runs a step of it. */
  async step<T>(operation: Operation, work: () => Promise<T>): Promise<T> {
    const { store } = operation
    const span = this.span?.child(operation)
    // What happens inside of a wait is not waited for a second time.
    const inside = new Activity(span, store === undefined ? this.timings : undefined)
    const began = performance.now()
    try {
      return await recorded(span, () => current.run(inside, work))
    } finally {
      const { timings } = this
      if (store !== undefined && timings !== undefined) {
        timings[store] = (timings[store] ?? 0) + performance.now() - began
      }
    }
  }
}

const current = new AsyncLocalStorage<Activity | undefined>()

/** What is under way here; undefined when nobody watches. */
export function activity(): Activity | undefined {
  return current.getStore()
}

/** Runs `work`, and everything that it starts, as part of an activity. */
export function during<T>(activity: Activity, work: () => T): T {
  return current.run(activity, work)
}

/**
 * Runs a step of whatever is under way here. While nobody watches this is a look and a call, so that it may stand on
 * every path; where that is too much, ask `activity()` before making the operation.
 */
export function step<T>(operation: Operation, work: () => Promise<T>): Promise<T> {
  const watched = current.getStore()
  return watched === undefined ? work() : watched.step(operation, work)
}

/** Runs one step for several who each wait for it: a step of the first, linked to the others. */
export function stepFor<T>(
  waiting: readonly (Activity | undefined)[],
  operation: Operation,
  work: () => Promise<T>,
): Promise<T> {
  const [first, ...others] = waiting.flatMap((one) => one?.span ?? [])
  const span = first?.child(operation, others)
  // Whoever happened to start it is not the only one it is done for.
  if (span === undefined && current.getStore() === undefined) return work()
  return recorded(span, () => current.run(span && new Activity(span, undefined), work))
}

async function recorded<T>(span: Span | undefined, work: () => Promise<T>): Promise<T> {
  try {
    const result = await work()
    span?.end()
    return result
  } catch (error) {
    span?.end(error)
    throw error
  }
}

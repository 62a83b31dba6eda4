import { type Breaker, createBreaker } from '../breaker.js'
import { DualstoreError } from '../errors.js'
import type { Mirror } from './contract.js'
import { type Trouble, troubleOf } from './trouble.js'

/** A mirror that does not keep anybody waiting while it is known to be away, and that knows how it is. */
export interface GuardedMirror extends Mirror {
  /** Open while the mirror does not answer; reads are then refused at once. */
  readonly breaker: Breaker
  /** Why changes cannot be applied now; undefined when the last were, or when another instance applies them. */
  readonly trouble: { kind: Trouble; message: string } | undefined
}

export interface GuardOptions {
  /** How long the mirror may take to answer that it is there, milliseconds. */
  pingMs: number
  log: { warn(fields: object, message: string): void }
  /** Told of each attempt to apply changes: how many, how long it took, and what went wrong. */
  onApplied?: (count: number, ms: number, trouble: Trouble | undefined) => void
}

/** Between two looks for a mirror that is away. */
const PAUSE_MS = 500

/**
 * A breaker around a mirror. Reads are refused while it is open. Applying is never refused: who applies has a loop of
 * its own that waits longer with each failure, and what it meets is how most outages are noticed.
 */
export function guardMirror(mirror: Mirror, { pingMs, log, onApplied }: GuardOptions): GuardedMirror {
  let trouble: GuardedMirror['trouble']
  let closed = false
  const breaker = createBreaker({
    pauseMs: PAUSE_MS,
    probe: async () => {
      if (closed) return
      await within(pingMs, mirror.ping())
    },
    refuse: (cause) =>
      new DualstoreError('MIRROR_UNAVAILABLE', 'the mirror is away; try again later', { cause }),
    onOpened: (err) => log.warn({ err }, 'the mirror is away: reads from it and strict writes are refused'),
    onClosed: () => log.warn({}, 'the mirror is back'),
  })

  const failed = (error: unknown) => {
    if (isUnavailable(error)) breaker.look()
    return error
  }
  const read = async <T>(work: () => Promise<T>): Promise<T> => {
    breaker.check()
    try {
      return await work()
    } catch (error) {
      throw failed(error)
    }
  }
  async function* stream<T>(open: () => AsyncIterable<T>): AsyncGenerator<T> {
    breaker.check()
    try {
      yield* open()
    } catch (error) {
      throw failed(error)
    }
  }
  const write = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      const result = await work()
      trouble = undefined
      // Whoever reads need not wait for the next look.
      if (breaker.state === 'open') breaker.look()
      return result
    } catch (error) {
      if (isUnavailable(error)) trouble = { kind: troubleOf(error), message: (error as Error).message }
      throw failed(error)
    }
  }

  return {
    kind: mirror.kind,
    breaker,
    get trouble() {
      return trouble
    },
    prepare: (definition) => write(() => mirror.prepare(definition)),
    async apply(changes) {
      const began = performance.now()
      try {
        const rejections = await write(() => mirror.apply(changes))
        onApplied?.(changes.length, performance.now() - began, undefined)
        return rejections
      } catch (error) {
        onApplied?.(0, performance.now() - began, troubleOf(error))
        throw error
      }
    },
    get: (definition, id) => read(() => mirror.get(definition, id)),
    scan: (definition, after) => stream(() => mirror.scan(definition, after)),
    marks: (definition, after) => stream(() => mirror.marks(definition, after)),
    marksAhead: (definition, span, seq) => read(() => mirror.marksAhead(definition, span, seq)),
    recent: (definition, limit) => read(() => mirror.recent(definition, limit)),
    count: (definition) => read(() => mirror.count(definition)),
    drop: (definition) => write(() => mirror.drop(definition)),
    raw: (definition, range) => stream(() => mirror.raw(definition, range)),
    rawMany: (definition, ids) => read(() => mirror.rawMany(definition, ids)),
    forgetPosition: (definition, id, seq) => write(() => mirror.forgetPosition(definition, id, seq)),
    foreign: (definition, what) => stream(() => mirror.foreign(definition, what)),
    removeForeign: (definition, lines) => write(() => mirror.removeForeign(definition, lines)),
    ping: () => mirror.ping(),
    examine: (definitions) => mirror.examine(definitions),
    close() {
      closed = true
      breaker.stop()
      return mirror.close()
    },
  }
}

function isUnavailable(error: unknown): boolean {
  return error instanceof DualstoreError && error.code === 'MIRROR_UNAVAILABLE'
}

/** Rejects when the time is up; what it waited for may still go on. */
async function within(limitMs: number, task: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${limitMs} ms`)), limitMs)
  })
  await Promise.race([task, late]).finally(() => clearTimeout(timer))
}

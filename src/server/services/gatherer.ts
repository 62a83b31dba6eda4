import { type Activity, activity, type Operation, step, stepFor } from '../activity.js'
import { codeOf, isUnavailable } from '../db/sqlstate.js'
import { DualstoreError } from '../errors.js'
import type { Write, WriteOutcome, WriteResult } from '../store/documents.js'
import { refused } from './settled.js'

/** The outcome of one write, and the log position from which on it is visible; null when nothing changed. */
export type Written = WriteOutcome & { position: number | null }

/** Gathers concurrent writes into shared statements (I11). */
export interface Gatherer {
  /**
   * Writes one document. Resolves when the write is committed.
   * @throws OVERLOADED when the queue is full; STORE_UNAVAILABLE when PostgreSQL cannot take it; what `refuse` makes
   * of a row that PostgreSQL refuses.
   */
  write(write: Write): Promise<Written>
  /** Writes many documents, each as `write` would, and resolves when all are settled: in their order, never rejecting. */
  writeAll(writes: readonly Write[]): Promise<PromiseSettledResult<Written>[]>
  /** Resolves when everything accepted so far is settled. */
  drain(): Promise<void>
  /** Writes waiting for a statement. */
  readonly waiting: number
  /** True while every further write is refused. */
  readonly full: boolean
}

export interface GathererOptions {
  /** Runs one statement for many writes. */
  run(writes: readonly Write[]): Promise<WriteResult>
  /** Turns PostgreSQL's refusal of a single row into an error for its caller. */
  refuse(error: unknown, write: Write): unknown
  /** Most rows and bytes of items in one statement. */
  maxRows: number
  maxBytes: number
  /** Most writes, and most characters of their items, that may wait; more are refused at once. */
  maxWaiting: number
  maxWaitingText: number
  /** Statements under way at once. */
  lanes: number
  /** Milliseconds after which a statement is slow: those that wait behind it go beside it, although they are few. */
  slowMs: number
}

interface Entry {
  write: Write
  /** What must not stand in two statements at once. */
  keys: readonly string[]
  /** What it is written for. */
  activity: Activity | undefined
  /** Whom to tell, and which of their writes this is. */
  tell: Tell
  place: number
}

type Tell = (place: number, result: PromiseSettledResult<Written>) => void

const GATHER: Omit<GathererOptions, 'run' | 'refuse'> = {
  maxRows: 500,
  maxBytes: 4 * 1024 * 1024,
  maxWaiting: 20_000,
  maxWaitingText: 256 * 1024 * 1024,
  lanes: 2,
  slowMs: 20,
}

/** What a write waits for, and the statement that it shares. */
const WAIT: Operation = { name: 'write', store: 'postgresql' }
const STATEMENT: Operation = { name: 'gathered statement' }

/**
 * While a statement is under way, the writes that arrive wait together and share the next one: nobody waits for a
 * timer, and one client alone gets a statement of its own at once. Statements end one behind the other anyway, because
 * of the log's lock, so a second one goes beside the first only when it is full, or when the first is slow: a row
 * that somebody else holds locked does not hold up the others. Two writes of the same document, or with the same
 * Idempotency-Key, never share a statement nor overtake each other. A row that PostgreSQL refuses fails alone: its
 * statement is halved until it stands by itself.
 */
export function createGatherer(
  options: Pick<GathererOptions, 'run' | 'refuse'> & Partial<GathererOptions>,
): Gatherer {
  const { run, refuse, maxRows, maxBytes, maxWaiting, maxWaitingText, lanes, slowMs } = {
    ...GATHER,
    ...options,
  }
  let queue: Entry[] = []
  let waitingText = 0
  const busy = new Set<string>()
  const idle: (() => void)[] = []
  let running = 0
  let scheduled = false
  /** Runs while a statement is under way that is not slow yet. */
  let patience: NodeJS.Timeout | undefined

  /** Takes the next batch from the queue, leaving in place whatever a running or chosen write must finish before. */
  const take = (): Entry[] => {
    const batch: Entry[] = []
    const left: Entry[] = []
    const blocked = new Set<string>()
    let bytes = 0
    let index = 0
    for (; index < queue.length && batch.length < maxRows; index++) {
      const entry = queue[index] as Entry
      const fits = batch.length === 0 || bytes + entry.write.text.length <= maxBytes
      if (fits && !entry.keys.some((key) => busy.has(key) || blocked.has(key))) {
        batch.push(entry)
        waitingText -= entry.write.text.length
        bytes += entry.write.text.length
        for (const key of entry.keys) busy.add(key)
      } else {
        left.push(entry)
        for (const key of entry.keys) blocked.add(key)
      }
    }
    queue = left.length === 0 ? queue.slice(index) : left.concat(queue.slice(index))
    return batch
  }

  const mayRun = () =>
    queue.length > 0 &&
    running < lanes &&
    (running === 0 || patience === undefined || queue.length >= maxRows || waitingText >= maxBytes)

  const pump = () => {
    scheduled = false
    while (mayRun()) {
      const batch = take()
      if (batch.length === 0) break
      running++
      clearTimeout(patience)
      patience = setTimeout(() => {
        patience = undefined
        pump()
      }, slowMs)
      void settleBatch(batch).finally(() => {
        for (const entry of batch) for (const key of entry.keys) busy.delete(key)
        running--
        if (running === 0) {
          clearTimeout(patience)
          patience = undefined
        }
        pump()
        if (running === 0 && queue.length === 0) for (const resolve of idle.splice(0)) resolve()
      })
    }
  }

  const settleBatch = async (batch: readonly Entry[]): Promise<void> => {
    try {
      const writes = batch.map((entry) => entry.write)
      const { outcomes, position } = await stepFor(
        batch.map((entry) => entry.activity),
        STATEMENT,
        () => run(writes),
      )
      // Documents that were all created share an outcome, and so what is told of it.
      let told: { of: WriteOutcome; result: PromiseSettledResult<Written> } | undefined
      batch.forEach((entry, index) => {
        const outcome = outcomes[index]
        if (outcome === undefined) {
          fail(entry, new DualstoreError('INTERNAL', 'a write came back without an outcome'))
          return
        }
        const reached = changed(outcome) ? position : null
        if (reached !== null) entry.activity?.span?.wrote(reached)
        if (told?.of !== outcome) {
          told = { of: outcome, result: { status: 'fulfilled', value: { ...outcome, position: reached } } }
        }
        entry.tell(entry.place, told.result)
      })
    } catch (error) {
      const [only] = batch
      if (isUnavailable(error)) for (const entry of batch) fail(entry, error)
      else if (batch.length === 1 && only !== undefined) fail(only, refuse(error, only.write))
      else {
        const half = Math.ceil(batch.length / 2)
        await settleBatch(batch.slice(0, half))
        await settleBatch(batch.slice(half))
      }
    }
  }

  const isFull = () => queue.length >= maxWaiting || waitingText >= maxWaitingText

  const enqueue = (write: Write, tell: Tell, place = 0) => {
    if (isFull()) return tell(place, refused(noRoom()))
    waitingText += write.text.length
    queue.push({ write, keys: keysOf(write), activity: activity(), tell, place })
    if (scheduled) return
    scheduled = true
    // After this turn of the event loop: requests that arrived together share a statement.
    setImmediate(pump)
  }

  return {
    write: (write) =>
      step(
        WAIT,
        () =>
          new Promise((resolve, reject) =>
            enqueue(write, (_, result) =>
              result.status === 'fulfilled' ? resolve(result.value) : reject(result.reason),
            ),
          ),
      ),
    writeAll(writes) {
      // One promise for all of them: an import would otherwise spend more on promises than on documents.
      const all = (resolve: (results: PromiseSettledResult<Written>[]) => void) => {
        const results = new Array<PromiseSettledResult<Written>>(writes.length)
        let left = writes.length
        const tell: Tell = (place, result) => {
          results[place] = result
          if (--left === 0) resolve(results)
        }
        if (left === 0) resolve(results)
        for (const [place, write] of writes.entries()) enqueue(write, tell, place)
      }
      return step(WAIT, () => new Promise(all))
    },
    drain() {
      return running === 0 && queue.length === 0
        ? Promise.resolve()
        : new Promise((resolve) => idle.push(resolve))
    },
    get waiting() {
      return queue.length
    },
    get full() {
      return isFull()
    },
  }
}

/** What a write is told that does not fit into the queue. */
export function noRoom(): DualstoreError {
  return new DualstoreError('OVERLOADED', 'too many writes are waiting; try again shortly')
}

function fail({ tell, place }: Entry, error: unknown): void {
  tell(place, refused(error))
}

function keysOf(write: Write): string[] {
  const document = `d\u0000${write.collection}\u0000${write.id}`
  return write.idempotency === null
    ? [document]
    : [document, `k\u0000${write.collection}\u0000${write.idempotency.key}`]
}

function changed(outcome: WriteOutcome): boolean {
  return outcome.outcome === 'created' || outcome.outcome === 'replaced' || outcome.outcome === 'deleted'
}

/** What PostgreSQL says when it refuses one row, for the caller whose row it was. Codes: PostgreSQL, appendix A. */
export function refusedRow(error: unknown, write: Pick<Write, 'collection' | 'id'>): unknown {
  switch (codeOf(error)) {
    case '23514': // check_violation: no partition takes the row, so the collection is being dropped
      return new DualstoreError('COLLECTION_NOT_FOUND', `there is no collection "${write.collection}"`)
    case '22P02': // invalid_text_representation
    case '22P05': // untranslatable_character
    case '22021': // character_not_in_repertoire
    case '22003': // numeric_value_out_of_range
      return new DualstoreError(
        'INVALID_REQUEST',
        `the document ${write.id} holds a value that cannot be stored`,
        {
          cause: error,
        },
      )
    case '54000': // program_limit_exceeded: a value of an indexed field is too long
    case '54001': // statement_too_complex
      return new DualstoreError(
        'INVALID_REQUEST',
        `the document ${write.id} holds a value that is too long for a field with an index (about 2,600 bytes)`,
        { cause: error },
      )
    default:
      return error
  }
}

import type { StoredDocument } from '../store/documents.js'

/** Reads single documents, concurrent ones together. */
export interface Reader {
  /**
   * The document as it is stored now: not earlier than this call.
   * @throws STORE_UNAVAILABLE
   */
  read(collection: string, id: string): Promise<StoredDocument | undefined>
}

export interface ReaderOptions {
  /** Runs one statement for many documents of a collection; those that do not exist are left out. */
  run(collection: string, ids: readonly string[]): Promise<readonly StoredDocument[]>
  /** Most documents of one statement. */
  maxIds?: number
  /** Statements under way at once for each collection. */
  lanes?: number
}

interface Asked {
  answer: Promise<StoredDocument | undefined>
  settle(document: StoredDocument | undefined): void
  fail(error: unknown): void
}

/** What waits of a collection, and how many statements for it are under way. */
interface Queue {
  waiting: Map<string, Asked>
  running: number
  scheduled: boolean
}

/**
 * While a statement is under way, the reads that arrive wait together and share the next one. Nobody waits for a timer:
 * one client alone gets a statement of its own at once. A document that is asked for twice is read once, but nobody
 * joins a statement that has been sent: it may have begun before a write that the caller knows of (I11).
 */
export function createReader({ run, maxIds = 64, lanes = 2 }: ReaderOptions): Reader {
  const queues = new Map<string, Queue>()

  const readSome = async (collection: string, asked: ReadonlyMap<string, Asked>): Promise<void> => {
    try {
      const found = await run(collection, [...asked.keys()])
      const byId = new Map(found.map((document) => [document.id, document]))
      for (const [id, { settle }] of asked) settle(byId.get(id))
    } catch (error) {
      for (const { fail } of asked.values()) fail(error)
    }
  }

  const pump = (collection: string, queue: Queue) => {
    queue.scheduled = false
    while (queue.running < lanes && queue.waiting.size > 0) {
      const asked = take(queue, maxIds)
      queue.running++
      void readSome(collection, asked).finally(() => {
        queue.running--
        pump(collection, queue)
      })
    }
    if (queue.running === 0 && queue.waiting.size === 0) queues.delete(collection)
  }

  return {
    read(collection, id) {
      let queue = queues.get(collection)
      if (queue === undefined) {
        queue = { waiting: new Map(), running: 0, scheduled: false }
        queues.set(collection, queue)
      }
      const known = queue.waiting.get(id)
      if (known !== undefined) return known.answer
      const asked = ask()
      queue.waiting.set(id, asked)
      if (!queue.scheduled && queue.running < lanes) {
        queue.scheduled = true
        // After this turn of the event loop: requests that arrived together share a statement.
        setImmediate(pump, collection, queue)
      }
      return asked.answer
    },
  }
}

/** Takes those who have waited the longest. */
function take(queue: Queue, maxIds: number): Map<string, Asked> {
  const { waiting } = queue
  if (waiting.size <= maxIds) {
    queue.waiting = new Map()
    return waiting
  }
  const taken = new Map<string, Asked>()
  for (const [id, asked] of waiting) {
    if (taken.size === maxIds) break
    taken.set(id, asked)
    waiting.delete(id)
  }
  return taken
}

function ask(): Asked {
  let settle: Asked['settle'] = () => {}
  let fail: Asked['fail'] = () => {}
  const answer = new Promise<StoredDocument | undefined>((resolve, reject) => {
    settle = resolve
    fail = reject
  })
  return { answer, settle, fail }
}

import type { ProviderEvent } from './contract.js'

export interface BufferLimits {
  /** Most events, and most characters of them, that may wait. */
  maxEvents: number
  maxSize: number
  /** The same for one batch. */
  batchEvents: number
  batchSize: number
  /** How long a batch is waited for once it has begun, milliseconds. */
  lingerMs: number
  /** How long whoever fills the buffer may be made to wait, milliseconds. */
  patienceMs: number
}

/** Between the feed, which must be read, and the stores, which may be slow or away. */
export interface EventBuffer {
  /** Waits for room; false when none came in time, and the event was not taken. */
  push(event: ProviderEvent): Promise<boolean>
  /** The next batch, gathered by time, number and size; empty when the buffer is closed and has nothing left. */
  take(): Promise<ProviderEvent[]>
  /** Nothing more will be pushed. */
  close(): void
  readonly waiting: number
}

export function createEventBuffer(limits: BufferLimits): EventBuffer {
  let queue: ProviderEvent[] = []
  let size = 0
  let closed = false
  const waiters = new Set<() => void>()
  const changed = () => {
    for (const wake of [...waiters]) wake()
  }
  /** Resolves at the next change, or when the time is up. */
  const change = (ms?: number) =>
    new Promise<void>((resolve) => {
      const wake = () => {
        clearTimeout(timer)
        waiters.delete(wake)
        resolve()
      }
      const timer = ms === undefined ? undefined : setTimeout(wake, ms)
      waiters.add(wake)
    })
  const isFull = () => queue.length >= limits.maxEvents || size >= limits.maxSize
  const fillsBatch = () => queue.length >= limits.batchEvents || size >= limits.batchSize

  return {
    async push(event) {
      const deadline = Date.now() + limits.patienceMs
      while (isFull() && !closed) {
        const left = deadline - Date.now()
        if (left <= 0) return false
        await change(left)
      }
      if (closed) return false
      queue.push(event)
      size += event.size
      changed()
      return true
    },
    async take() {
      while (queue.length === 0 && !closed) await change()
      const deadline = Date.now() + limits.lingerMs
      while (!closed && !fillsBatch()) {
        const left = deadline - Date.now()
        if (left <= 0) break
        await change(left)
      }
      const batch = firstBatch(queue, limits)
      queue = queue.slice(batch.length)
      for (const event of batch) size -= event.size
      changed()
      return batch
    },
    close() {
      closed = true
      changed()
    },
    get waiting() {
      return queue.length
    },
  }
}

/** The first events that make one batch: one of any size, or several within the limits. */
function firstBatch(queue: readonly ProviderEvent[], limits: BufferLimits): ProviderEvent[] {
  let size = 0
  const end = queue.findIndex((event, index) => {
    size += event.size
    return index > 0 && (index >= limits.batchEvents || size > limits.batchSize)
  })
  return queue.slice(0, end === -1 ? queue.length : end)
}

/** Gathers a sequence into batches within the limits. */
export async function* inBatches<T extends { size: number }>(
  source: AsyncIterable<T>,
  { batchEvents, batchSize }: Pick<BufferLimits, 'batchEvents' | 'batchSize'>,
): AsyncGenerator<T[]> {
  let batch: T[] = []
  let size = 0
  for await (const one of source) {
    if (batch.length > 0 && (batch.length >= batchEvents || size + one.size > batchSize)) {
      yield batch
      batch = []
      size = 0
    }
    batch.push(one)
    size += one.size
  }
  if (batch.length > 0) yield batch
}

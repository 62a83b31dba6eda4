import { DualstoreError } from '../errors.js'
import type { Log } from '../followers/contract.js'
import { createWaits } from '../followers/waits.js'
import { createApply, hasGap, isProviderAway } from './apply.js'
import { type BufferLimits, createEventBuffer, type EventBuffer, inBatches } from './buffer.js'
import type { DocumentState, Provider, ProviderEvent, Sink } from './contract.js'
import { createTally, type IngestStatus, type Tally } from './status.js'
import { createIngestStore } from './store.js'

export interface IngesterOptions {
  provider: Provider
  sink: Sink
  log: Log
  /** Catch up and end, instead of following; nothing is tried again. */
  once?: boolean
  limits?: Partial<BufferLimits>
}

export interface Ingester {
  /**
   * Works until the signal is aborted, through outages of both sides, and then stores what it has received.
   * @throws what trying again cannot mend: UNAUTHORIZED, INVALID_REQUEST, COLLECTION_NOT_FOUND
   */
  run(stop: AbortSignal): Promise<void>
  status(): IngestStatus
}

const LIMITS: BufferLimits = {
  maxEvents: 5000,
  maxSize: 32 * 1024 * 1024,
  batchEvents: 250,
  batchSize: 4 * 1024 * 1024,
  lingerMs: 200,
  // A provider must not be made to hold events for a store that is away: it keeps them anyway.
  patienceMs: 5000,
}
const FIRST_PAUSE_MS = 200
const LONGEST_PAUSE_MS = 3000

/**
 * Brings a provider's events and documents into the stores, each once.
 *
 * The feed is opened first, then everything that the provider keeps behind what is stored is read, then what the feed
 * has delivered meanwhile is applied: no moment lies between the history and the feed. What is met twice is known by
 * its id, or by its number in its stream.
 *
 * An event that the provider keeps is stored only behind the documents that it speaks of. So what is stored says by
 * itself where to go on: a stream's stored events and everything they led to are complete, and no position is kept.
 * When the provider goes away between the two, its events are left for the next catching up. Those that it does not
 * keep are stored at once.
 */
export function createIngester({ provider, sink, log, once = false, ...options }: IngesterOptions): Ingester {
  const limits = { ...LIMITS, ...options.limits }
  const tally = createTally({ provider: provider.id, from: provider.where, to: sink.where })
  let buffer: EventBuffer | undefined
  let inHand = 0

  const run = async (stop: AbortSignal): Promise<void> => {
    const { pause } = createWaits(stop)
    const outages = createOutages(log, tally)
    let failures = 0

    /** Tries again with growing pauses while the store is away; when stopping, once more. */
    const persist = async <T>(work: () => Promise<T>): Promise<T> => {
      const before = tally.state
      for (let attempt = 0; ; attempt++) {
        try {
          const result = await work()
          tally.state = before
          if (attempt > 0) outages.over('the store takes writes again')
          return result
        } catch (error) {
          if (!isAway(error) || once || stop.aborted) throw error
          tally.state = 'waiting'
          outages.began(error, 'the store is away; will keep trying')
          await pause(pauseMs(attempt))
        }
      }
    }
    const store = createIngestStore({ sink, events: provider.events, tally, log, persist })
    const known = await store.known()
    const apply = createApply({ provider, store, tally, log, known })

    const inHandWhile = async (batch: readonly ProviderEvent[], work: () => Promise<void>) => {
      inHand = batch.length
      await work().finally(() => {
        inHand = 0
      })
    }
    const catchUp = async (): Promise<void> => {
      for await (const batch of inBatches(provider.history(known, stop), limits)) {
        for (const event of batch) tally.received(event)
        await inHandWhile(batch, () => apply(batch))
        stop.throwIfAborted()
      }
      const rest = inBatches(sized(provider.remainder(known, stop)), limits)
      for await (const states of rest) {
        await store.bringUpToDate(states)
        stop.throwIfAborted()
      }
    }

    const applyLive = async (batch: readonly ProviderEvent[]): Promise<void> => {
      if (hasGap(batch, known)) {
        // The feed has left something out; the history has not.
        log.warn({}, 'the feed has a gap; catching up')
        await catchUp()
      }
      await inHandWhile(batch, () => apply(batch))
    }

    /** One connection: ends with the reason why it is over. */
    const follow = async (): Promise<unknown> => {
      tally.state = 'connecting'
      await provider.check(stop)
      const over = new AbortController()
      const events = await provider.open(AbortSignal.any([stop, over.signal]))
      tally.connected()
      const waiting = createEventBuffer(limits)
      buffer = waiting
      const pumped = pump(events, waiting, (event) => tally.received(event))
      let reason: unknown
      const attempt = async (work: () => Promise<void>) => {
        try {
          await work()
        } catch (error) {
          if (!isProviderAway(error) && !stop.aborted) throw error
          reason ??= error
          over.abort()
        }
      }
      try {
        tally.state = 'catching_up'
        await attempt(catchUp)
        if (reason === undefined) {
          tally.state = 'following'
          failures = 0
          outages.over(`following ${provider.where}`)
        }
        for (let batch = await waiting.take(); batch.length > 0; batch = await waiting.take()) {
          if (reason === undefined) await attempt(() => applyLive(batch))
          else await store.addEvents(batch.filter((event) => event.kept === undefined))
        }
        return reason ?? (await pumped)
      } finally {
        over.abort()
        waiting.close()
      }
    }

    try {
      if (once) {
        await provider.check(stop)
        tally.state = 'catching_up'
        await catchUp()
        return
      }
      while (!stop.aborted) {
        const reason = await follow().catch((error: unknown) => {
          if (isProviderAway(error) || stop.aborted) return error
          throw error
        })
        if (stop.aborted) {
          if (isAway(reason) && !isProviderAway(reason)) throw reason
          return
        }
        tally.state = 'connecting'
        outages.began(reason, 'the feed is over; will connect again')
        await pause(pauseMs(failures++))
      }
    } finally {
      tally.state = 'stopped'
    }
  }

  return { run, status: () => tally.status((buffer?.waiting ?? 0) + inHand) }
}

/** Reads the feed into the buffer until one of them ends; resolves to the reason, never rejects. */
async function pump(
  events: AsyncIterable<ProviderEvent>,
  buffer: EventBuffer,
  received: (event: ProviderEvent) => void,
): Promise<unknown> {
  try {
    for await (const event of events) {
      if (!(await buffer.push(event))) return new Error('the store is too slow, so the feed was closed')
      received(event)
    }
    return new Error('the provider has ended the feed')
  } catch (error) {
    return error
  } finally {
    buffer.close()
  }
}

async function* sized(
  states: AsyncIterable<DocumentState>,
): AsyncGenerator<DocumentState & { size: number }> {
  for await (const state of states) yield { ...state, size: JSON.stringify(state.item ?? null).length }
}

/** Tells of an outage once for each reason, and when it is over. */
function createOutages(log: Log, tally: Tally) {
  return {
    began(error: unknown, message: string) {
      const reason = (error as Error).message
      if (reason !== tally.lastError) log.warn({ reason }, message)
      tally.lastError = reason
    },
    over(message: string) {
      log.info({}, message)
      tally.lastError = undefined
    },
  }
}

function pauseMs(failures: number): number {
  return Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures, 10))
}

/** True for what may be over later, a proxy's or server's own failure included. */
function isAway(error: unknown): boolean {
  return error instanceof DualstoreError && (error.retryable || error.status >= 500)
}

import { DualstoreError } from '../errors.js'
import type { Log } from '../followers/contract.js'
import type { DocumentState, Provider, ProviderEvent, Touched } from './contract.js'
import type { Tally } from './status.js'
import type { IngestStore } from './store.js'

export interface ApplyOptions {
  provider: Provider
  store: IngestStore
  tally: Tally
  log: Log
  /** The last number of each stream; moves on with what is applied. */
  known: Map<string, number>
}

/** Applies a batch: documents first, then the events; what is known already is left out. */
export function createApply({ provider, store, tally, log, known }: ApplyOptions) {
  return async (batch: readonly ProviderEvent[]): Promise<void> => {
    const events = distinct(batch).filter(
      ({ kept }) => kept === undefined || kept.seq > (known.get(kept.stream) ?? -1),
    )
    for (const { type, known: isKnown } of events) {
      if (!isKnown && tally.unknown(type)) log.warn({ type }, 'stored an event of a type that is not known')
    }
    let states: DocumentState[]
    try {
      states = await provider.read(touchedBy(events))
    } catch (error) {
      if (isProviderAway(error)) await store.addEvents(events.filter((event) => event.kept === undefined))
      throw error
    }
    await store.bringUpToDate(states)
    await store.addEvents(events)
    for (const { kept } of events) if (kept !== undefined) known.set(kept.stream, kept.seq)
  }
}

/** True when numbers are missing between what is known of a stream and a batch, or within the batch. */
export function hasGap(batch: readonly ProviderEvent[], known: ReadonlyMap<string, number>): boolean {
  const last = new Map<string, number>()
  return batch.some(({ kept }) => {
    if (kept === undefined) return false
    const before = last.get(kept.stream) ?? known.get(kept.stream)
    last.set(kept.stream, kept.seq)
    return before !== undefined && kept.seq > before + 1
  })
}

/** Each event once; the form with a number counts. */
function distinct(batch: readonly ProviderEvent[]): ProviderEvent[] {
  const byId = new Map<string, ProviderEvent>()
  for (const event of batch) {
    if (event.kept !== undefined || !byId.has(event.item.id)) byId.set(event.item.id, event)
  }
  return [...byId.values()]
}

/** Each document once, as its last event left it. */
function touchedBy(events: readonly ProviderEvent[]): Touched[] {
  const last = new Map<string, Touched>()
  for (const { touched } of events) {
    if (touched !== undefined) last.set(`${touched.collection}\u0000${touched.id}`, touched)
  }
  return [...last.values()]
}

/** True when the provider may be back later. */
export function isProviderAway(error: unknown): boolean {
  return error instanceof DualstoreError && error.code === 'PROVIDER_UNAVAILABLE'
}

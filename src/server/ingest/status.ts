import type { ImportReport } from '../services/transfer.js'
import type { ProviderEvent } from './contract.js'

/** connecting: the provider is not reached yet; waiting: the store is away; stopped: it has ended. */
export type IngestState = 'connecting' | 'catching_up' | 'following' | 'waiting' | 'stopped'

/** How far an ingester is, as an operator wants to know it; times are ISO 8601. */
export interface IngestStatus {
  provider: string
  from: string
  to: string
  state: IngestState
  /** When the newest event that was seen, and the newest that is stored, happened. */
  newest_event: string | null
  acknowledged_event: string | null
  /** From the one to the other, milliseconds; 0 when nothing waits. */
  lag_ms: number
  /** Events that were received and are not stored yet. */
  waiting: number
  events: {
    received: number
    stored: number
    /** They were stored before. */
    known: number
    /** No store can hold them; the log names each. */
    refused: number
    /** Stored and known ones by their type. */
    by_type: Record<string, number>
  }
  messages: { written: number; unchanged: number; removed: number; refused: number }
  unknown_types: string[]
  reconnects: number
  last_error: string | null
}

/** Counts what an ingester does. */
export interface Tally {
  received(event: ProviderEvent): void
  /** These events are stored, or were before. */
  acknowledged(events: readonly ProviderEvent[], report: Pick<ImportReport, 'created' | 'skipped'>): void
  refused(what: 'events' | 'messages'): void
  message(outcome: 'written' | 'unchanged' | 'removed', count: number): void
  /** True when this type is met for the first time. */
  unknown(type: string): boolean
  connected(): void
  state: IngestState
  lastError: string | undefined
  status(waiting: number): IngestStatus
}

/** Beyond this many types a provider's new ones are counted together: the status must not grow for ever. */
const MAX_TYPES = 500
const OTHER_TYPES = '(others)'

export function createTally(names: Pick<IngestStatus, 'provider' | 'from' | 'to'>): Tally {
  const events = { received: 0, stored: 0, known: 0, refused: 0 }
  const byType = new Map<string, number>()
  const messages = { written: 0, unchanged: 0, removed: 0, refused: 0 }
  const unknownTypes = new Set<string>()
  let connections = 0
  let newest = 0
  let acknowledged = 0

  return {
    state: 'connecting',
    lastError: undefined,
    received(event) {
      events.received++
      newest = Math.max(newest, event.at)
    },
    acknowledged(some, report) {
      for (const { type, at } of some) {
        const name = byType.has(type) || byType.size < MAX_TYPES ? type : OTHER_TYPES
        byType.set(name, (byType.get(name) ?? 0) + 1)
        acknowledged = Math.max(acknowledged, at)
      }
      events.stored += report.created
      events.known += report.skipped
    },
    refused(what) {
      if (what === 'events') events.refused++
      else messages.refused++
    },
    message(outcome, count) {
      messages[outcome] += count
    },
    unknown(type) {
      if (unknownTypes.has(type) || unknownTypes.size >= MAX_TYPES) return false
      unknownTypes.add(type)
      return true
    },
    connected() {
      connections++
    },
    status(waiting) {
      return {
        ...names,
        state: this.state,
        newest_event: isoTime(newest),
        acknowledged_event: isoTime(acknowledged),
        lag_ms: waiting === 0 ? 0 : Math.max(0, newest - acknowledged),
        waiting,
        events: { ...events, by_type: Object.fromEntries([...byType].sort()) },
        messages: { ...messages },
        unknown_types: [...unknownTypes],
        reconnects: Math.max(0, connections - 1),
        last_error: this.lastError ?? null,
      }
    },
  }
}

function isoTime(ms: number): string | null {
  return ms === 0 ? null : new Date(ms).toISOString()
}

import { isDeepStrictEqual } from 'node:util'
import { DualstoreError } from '../errors.js'
import type { Log } from '../followers/contract.js'
import type { Item } from '../schemas/item.js'
import type { ImportReport } from '../services/transfer.js'
import type { DocumentState, ProviderEvent, Sink } from './contract.js'
import type { Tally } from './status.js'

/** What an ingester writes, and what of it is not written again. */
export interface IngestStore {
  /** Adds events; one that is stored already stays as it is. */
  addEvents(events: readonly ProviderEvent[]): Promise<void>
  /** Brings documents to the state they are in; what is equal by value is left alone and gets no new version. */
  bringUpToDate(states: readonly DocumentState[]): Promise<void>
  /** The last number of each stream whose events are stored without a gap. */
  known(): Promise<Map<string, number>>
}

export interface IngestStoreOptions {
  sink: Sink
  events: string
  tally: Tally
  log: Log
  /** Does something again until the sink takes it. */
  persist<T>(work: () => Promise<T>): Promise<T>
}

export function createIngestStore({ sink, events, tally, log, persist }: IngestStoreOptions): IngestStore {
  type Write = (items: readonly Item[]) => Promise<ImportReport>

  /** Writes items; one that is larger than the sink takes is found by halving, and refused alone. */
  const write = async (
    what: 'events' | 'messages',
    items: readonly Item[],
    send: Write,
  ): Promise<ImportReport> => {
    try {
      const report = await persist(() => send(items))
      for (const { id, line, field, message } of report.errors)
        refuse(what, id ?? items[line - 1]?.id, `${field} ${message}`)
      return report
    } catch (error) {
      if (!(error instanceof DualstoreError) || error.code !== 'PAYLOAD_TOO_LARGE') throw error
      const [only] = items
      if (items.length === 1 && only !== undefined) {
        refuse(what, only.id, error.message)
        return { received: 1, created: 0, replaced: 0, skipped: 0, failed: 1, errors: [], position: null }
      }
      const half = Math.ceil(items.length / 2)
      const first = await write(what, items.slice(0, half), send)
      const rest = await write(what, items.slice(half), send)
      return { ...rest, created: first.created + rest.created, skipped: first.skipped + rest.skipped }
    }
  }

  const refuse = (what: 'events' | 'messages', id: string | undefined, reason: string) => {
    tally.refused(what)
    log.error({ what, id, reason }, 'left out what no store can hold')
  }

  const documentsOf = async (collection: string, states: readonly DocumentState[]): Promise<void> => {
    const ids = states.map(({ touched }) => touched.id)
    const stored = await persist(() => sink.find(collection, ids))
    const differing: Item[] = []
    for (const { touched, item } of states) {
      const before = stored.get(touched.id)
      if (item === undefined) {
        if (!touched.removed || before === undefined) continue
        if (await persist(() => sink.remove(collection, touched.id))) tally.message('removed', 1)
      } else if (before !== undefined && isDeepStrictEqual(before, asStored(item))) {
        tally.message('unchanged', 1)
      } else {
        differing.push(item)
      }
    }
    if (differing.length === 0) return
    const report = await write('messages', differing, (items) => sink.replace(collection, items))
    tally.message('written', differing.length - report.failed)
  }

  return {
    async addEvents(some) {
      if (some.length === 0) return
      const items = some.map(({ item }) => item)
      tally.acknowledged(some, await write('events', items, (few) => sink.add(events, few)))
    },

    async bringUpToDate(states) {
      const collections = new Set(states.map(({ touched }) => touched.collection))
      for (const collection of collections) {
        await documentsOf(
          collection,
          states.filter(({ touched }) => touched.collection === collection),
        )
      }
    },

    async known() {
      const streams = new Map<string, { first: number; last: number; count: number }>()
      const selection = { filter: '{"seq":{"$gte":0}}', fields: 'session_id,seq' }
      // From the beginning when it breaks off: half of a count says nothing.
      await persist(async () => {
        streams.clear()
        for await (const page of sink.pages(events, selection)) {
          for (const { session_id: stream, seq } of page) {
            if (typeof stream !== 'string' || typeof seq !== 'number') continue
            const { first = seq, last = seq, count = 0 } = streams.get(stream) ?? {}
            streams.set(stream, { first: Math.min(first, seq), last: Math.max(last, seq), count: count + 1 })
          }
        }
      })
      // A batch that was cut short leaves a gap, and its stream is read again as a whole. What was deleted here from
      // the beginning of a stream on leaves none, and stays deleted.
      const whole = [...streams].filter(([, { first, last, count }]) => last - first + 1 === count)
      return new Map(whole.map(([stream, { last }]) => [stream, last]))
    },
  }
}

/** An item as JSON gives it back: members that are undefined are none. */
function asStored(item: Item): Item {
  return JSON.parse(JSON.stringify(item)) as Item
}

import type { Pool } from '../../db/pool.js'
import { compareCodePoints } from '../../filter/compare.js'
import { entriesBehind, type LogEntry, type Tail } from '../../followers/tail.js'
import type { CollectionDefinition } from '../../schemas/collection.js'
import { nextCollection } from '../../store/collections.js'
import { scanPage } from '../../store/scan.js'
import { changeJson, frame, seenBy, snapshotFrame, type View } from './events.js'

export interface Snapshot {
  /** Writes for the client, in order, made as they are taken. @throws PositionLost, STORE_UNAVAILABLE */
  frames(): AsyncGenerator<string>
  /** When all is written: what was sent is exactly the state at this position. */
  readonly position: number
}

export interface SnapshotOptions {
  pool: Pool
  tail: Tail
  view: View
  now: () => number
}

/**
 * The matching documents, and no moment at which everything stands still: each page is read together with the log's
 * position of that instant, and before it is sent, what happened since the page before to documents that were already
 * sent. At the end the client therefore holds exactly the state at the last page's position, and neither a long
 * transaction nor a set of what was sent is kept, however many documents there are and however slow the client is.
 * Which collection is next is asked when the one before it is through, in the same order: one that is made meanwhile
 * comes either as the next or, behind its place already, as changes of what was sent.
 * (The idea of reading a table in chunks between log positions: Andreakis and Papapanagiotou, "DBLog", 2020.)
 */
export function createSnapshot({ pool, tail, view, now }: SnapshotOptions): Snapshot {
  let position = 0

  async function* frames(): AsyncGenerator<string> {
    let first = true
    let definition = await nextOf('')
    while (definition !== undefined) {
      const { name: collection, schema } = definition
      const selection = { collection, schema, filter: view.filter, text: undefined }
      for (let last = ''; ; ) {
        const page = await scanPage(pool, selection, last)
        if (!first) yield* changesOfSent(position, page.position, { collection, id: last })
        first = false
        position = page.position
        if (page.documents.length === 0) break
        const texts = page.documents.map((document) =>
          snapshotFrame(view.format, collection, document, now()),
        )
        yield texts.join('')
        last = page.documents.at(-1)?.id ?? last
      }
      definition = await nextOf(collection)
    }
    // Of nothing there is nothing to send: what is written from now on comes as changes.
    if (first) position = (await tail.head()).position
  }

  async function nextOf(after: string): Promise<CollectionDefinition | undefined> {
    for (let last = after; ; ) {
      const next = await nextCollection(pool, last, view.collections)
      if (next === undefined || view.includes(next.name)) return next
      last = next.name
    }
  }

  /** Changes in (after, upTo] of documents up to a place in the order in which they are sent. */
  async function* changesOfSent(after: number, upTo: number, place: Place): AsyncGenerator<string> {
    for (let at = after; at < upTo; ) {
      const segment = tail.inMemory(at) ?? (await tail.load(at))
      const texts: string[] = []
      for (const entry of entriesBehind(segment, at)) {
        if (entry.change.seq > upTo) break
        if (!isSent(entry, place)) continue
        const seen = seenBy(view, entry)
        if (seen === undefined) continue
        texts.push(frame(view.format, seen.type, changeJson(entry, seen, tail.epoch, true)))
      }
      // What is in memory grows while the client takes its time.
      at = segment.last
      if (texts.length > 0) yield texts.join('')
    }
  }

  return {
    frames,
    get position() {
      return position
    },
  }
}

interface Place {
  collection: string
  id: string
}

function isSent({ change }: LogEntry, place: Place): boolean {
  const order = compareCodePoints(change.collection, place.collection)
  return order < 0 || (order === 0 && compareCodePoints(change.id, place.id) <= 0)
}

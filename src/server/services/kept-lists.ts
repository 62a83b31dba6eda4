import { LRUCache } from 'lru-cache'
import { type LogEnd, readEnd, readPiece } from '../changes/read.js'
import type { Pool } from '../db/pool.js'
import { sharedReading } from '../db/shared-reading.js'
import { verdict } from '../filter/verdict.js'
import { LogEntry } from '../followers/tail.js'
import type { Item } from '../schemas/item.js'
import { countSelected, type Selection } from '../store/list.js'
import { mayBeArray } from '../store/may-be-array.js'

/**
 * Totals and pages of lists, kept for as long as they are right.
 *
 * Every list first asks PostgreSQL where the log ends; whoever asks at the same time shares the answer. When it has not
 * moved, what is kept is the state of this moment, because no write is missing from the log (I2). When it has, the
 * changes are read and applied: a total goes up or down by the documents that came into or left the selection, and
 * pages are dropped when a change touched the selection. So an answer is never older than its request, whoever wrote.
 */
export interface KeptLists {
  /**
   * What is kept of a selection, brought up to the log's present end.
   * @param version Of the definition whose schema the selection has.
   * @throws STORE_UNAVAILABLE
   */
  of(selection: Selection, version: number): Promise<KeptList>
}

export interface KeptList {
  /** Exact number of documents selected, counted only when it is not known. */
  total(): Promise<number>
  /**
   * A page, read only when the one kept under this name has changed.
   * @param name Tells the pages of a selection apart.
   * @param read Gives the page and about how many characters it holds.
   */
  page<P extends object>(name: string, read: () => Promise<P>, size: (page: P) => number): Promise<P>
}

export interface KeptListsOptions {
  pool: Pool
  /** Most memory for pages, in bytes; 0 keeps none. */
  maxBytes?: number | undefined
}

/** What is known of one selection. */
interface View {
  key: string
  selection: Selection
  /** Position of the newest change that may have touched it. */
  touched: number
  /** The total with all changes up to `at`. */
  total: { count: number; at: number } | undefined
  /** While it is being counted: what the changes read since then add; NaN where that cannot be told. */
  counting: { done: Promise<number>; added: { seq: number; by: number }[] } | undefined
}

interface KeptPage {
  view: View
  /** The page holds all changes up to here, and perhaps more. */
  at: number
  page: object
}

/** The same while it is read. */
interface Reading {
  view: View
  at: number
  page: Promise<object>
}

const MAX_VIEWS = 1000
const MAX_BYTES = 16 * 1024 * 1024
const READ_AT_ONCE = 1000
/** Whoever is further behind starts anew: counting again is cheaper than reading that much of the log. */
const MAX_BEHIND = 5000
/** Changes of a collection times its selections; looking through more would keep the process from answering others. */
const MAX_VERDICTS = 20_000

export function createKeptLists({ pool, maxBytes = MAX_BYTES }: KeptListsOptions): KeptLists {
  const views = new LRUCache<string, View>({
    max: MAX_VIEWS,
    maxSize: MAX_BYTES / 2,
    sizeCalculation: (view) => 1000 + view.key.length * 2,
  })
  const pages = new LRUCache<string, KeptPage>({
    maxSize: Math.max(1, maxBytes),
    maxEntrySize: Math.max(1, Math.floor(maxBytes / 8)),
  })
  const readings = new Map<string, Reading>()
  /** Up to where the log has been applied to everything kept. */
  let end: LogEnd | undefined

  const forget = () => {
    views.clear()
    pages.clear()
    readings.clear()
  }

  /** Applies what the log has behind `end`, at least up to where it ended when this was called. */
  const catchUp = sharedReading(async () => {
    try {
      const now = await readEnd(pool, end?.position ?? -1)
      let known = end
      if (known === undefined || !continues(known, now)) {
        forget()
        known = now
      }
      while (known.position < now.position) {
        const { changes, epoch, floor, position } = await readPiece(pool, known.position, READ_AT_ONCE)
        const next: LogEnd = { epoch, floor, position, server: known.server }
        if (continues(known, next)) apply(changes.map((change) => new LogEntry(change)))
        else forget()
        known = { ...next, position: changes.at(-1)?.seq ?? position }
      }
      end = known
    } catch (error) {
      // The next answer may come from another server, which never had what this one told.
      forget()
      end = undefined
      throw error
    }
  })

  const apply = (entries: readonly LogEntry[]) => {
    const concerned = new Map<string, View[]>()
    for (const view of views.values()) {
      const { collection } = view.selection
      concerned.set(collection, [...(concerned.get(collection) ?? []), view])
    }
    let left = MAX_VERDICTS
    for (const entry of entries) {
      const found = concerned.get(entry.change.collection) ?? []
      left -= found.length
      if (left < 0) return forget()
      for (const view of found) applyTo(view, entry)
    }
  }

  const viewOf = (selection: Selection, version: number): View => {
    const { collection, filter, text } = selection
    const key = JSON.stringify([collection, version, filter, text])
    const known = views.get(key)
    if (known !== undefined) return known
    const view = { key, selection, touched: 0, total: undefined, counting: undefined }
    views.set(key, view)
    return view
  }

  const count = async (view: View, added: readonly { seq: number; by: number }[]): Promise<number> => {
    const { count, position } = await countSelected(pool, view.selection)
    let total = count
    for (const { seq, by } of added) if (seq > position) total += by
    // What cannot be told is not kept, nor what nobody would keep right from now on.
    if (Number.isNaN(total) || end === undefined || views.peek(view.key) !== view) return count
    view.total = { count: total, at: Math.max(position, end.position) }
    return total
  }

  const totalOf = async (view: View): Promise<number> => {
    // Whoever waits for another's count does so because its result is kept right meanwhile; if it is not, counts anew.
    while (view.total === undefined) {
      if (view.counting !== undefined) {
        await view.counting.done.catch(() => {})
        continue
      }
      const added: { seq: number; by: number }[] = []
      const done = count(view, added).finally(() => {
        view.counting = undefined
      })
      view.counting = { done, added }
      return done
    }
    return view.total.count
  }

  const pageOf = async <P extends object>(
    view: View,
    name: string,
    read: () => Promise<P>,
    size: (page: P) => number,
  ): Promise<P> => {
    const key = `${name}\n${view.key}`
    const holds = (found: KeptPage | Reading | undefined) => found?.view === view && found.at >= view.touched
    const kept = pages.get(key)
    if (kept !== undefined && holds(kept)) return kept.page as P
    const under = readings.get(key)
    if (under !== undefined && holds(under)) return under.page as Promise<P>
    const at = end?.position ?? -1
    const page = read()
    const reading = { view, at, page }
    readings.set(key, reading)
    try {
      const found = await page
      const bytes = 2 * (key.length + size(found)) + 500
      if (maxBytes > 0 && holds(reading)) pages.set(key, { view, at, page: found }, { size: bytes })
      return found
    } finally {
      if (readings.get(key) === reading) readings.delete(key)
    }
  }

  return {
    async of(selection, version) {
      await catchUp()
      const view = viewOf(selection, version)
      return {
        total: () => totalOf(view),
        page: (name, read, size) => pageOf(view, name, read, size),
      }
    },
  }
}

/** Whether the log that ended at `end` is the one that ends there now, with nothing in between that is gone. */
function continues(end: LogEnd, now: LogEnd): boolean {
  return (
    now.epoch === end.epoch &&
    now.server === end.server &&
    now.floor <= end.position &&
    now.position >= end.position &&
    now.position - end.position <= MAX_BEHIND
  )
}

/** Takes one change into account. */
function applyTo(view: View, entry: LogEntry): void {
  const { seq, op } = entry.change
  const before = op === 'insert' ? false : contains(view.selection, entry, op === 'update')
  const after = op === 'delete' ? false : contains(view.selection, entry, false)
  if (before === false && after === false) return
  view.touched = seq
  const by = before === undefined || after === undefined ? Number.NaN : Number(after) - Number(before)
  if (by === 0) return
  view.counting?.added.push({ seq, by })
  if (view.total === undefined || seq <= view.total.at) return
  if (Number.isNaN(by)) view.total = undefined
  else view.total.count += by
}

/** Whether a selection contains the document of a change, or the one before it; undefined when that cannot be told. */
function contains(selection: Selection, entry: LogEntry, previous: boolean): boolean | undefined {
  const { change } = entry
  const item: Item | null = previous ? entry.previous : entry.item
  if (item === null) return undefined
  const found = verdict(selection.filter, {
    item,
    text: (previous ? change.previousText : change.text) ?? '',
    // Only of a new document that this program wrote: an update leaves the columns as they were.
    timesHold: change.op === 'insert' && change.author !== null,
    mayBeArray: (path) => mayBeArray(selection.schema, path),
  })
  return found === true && selection.text !== undefined ? undefined : found
}

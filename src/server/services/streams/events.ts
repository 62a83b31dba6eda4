import { formatPosition } from '../../changes/position.js'
import { everything, type Filter } from '../../filter/ast.js'
import { matches } from '../../filter/matches.js'
import type { LogEntry } from '../../followers/tail.js'
import { covers, isRestricted, type Principal } from '../principal.js'

/** `named` is the documented legacy form; `message` has no event names, for clients that listen with onmessage. */
export type StreamFormat = 'named' | 'message'

export type ControlType = 'connection' | 'ready' | 'heartbeat' | 'reset' | 'close'
export type ChangeType = 'insert' | 'update' | 'delete'

/** What a client wants to see; clients that want the same share what is made for it. */
export interface View {
  /** The same for equal views. */
  readonly key: string
  /** Those asked for; undefined: all that `includes` knows, those made later too. */
  readonly collections: ReadonlySet<string> | undefined
  /** Whether changes of a collection are for this view. */
  includes(collection: string): boolean
  /** What was asked for, as far as the client may see it. */
  readonly filter: Filter
  /** There are documents that the client must not know of. */
  readonly restricted: boolean
  readonly format: StreamFormat
}

export interface ViewOptions {
  /** undefined: all that the principal may read. It may read each that is named. */
  collections: readonly string[] | undefined
  /** With the principal's rows in it. */
  filter: Filter
  format: StreamFormat
  principal: Principal
}

/**
 * The key has in it everything that decides what is seen, and nothing else: principals that see the same share a view,
 * others never do.
 */
export function createView({ collections, filter, format, principal }: ViewOptions): View {
  const names = collections && [...new Set(collections)].sort()
  const set = names && new Set(names)
  const patterns = [...new Set(principal.scopes.read)].sort()
  const all = patterns.includes('*')
  const restricted = isRestricted(principal)
  return {
    key: JSON.stringify([names ?? null, names || all ? null : patterns, filter, restricted, format]),
    collections: set,
    includes: (name) => (set === undefined ? all || covers(principal, 'read', name) : set.has(name)),
    filter,
    restricted,
    format,
  }
}

/** A change as a client with a filter sees it: one that leaves the filter is deleted for it. */
export interface Seen {
  type: ChangeType
  /** The document, JSON text: for delete as it last matched. */
  text: string
}

/** What a change is to a view; undefined when it is nothing. */
export function seenBy(view: Omit<View, 'key' | 'format'>, entry: LogEntry): Seen | undefined {
  const { change } = entry
  const { op, text, previousText } = change
  if (!view.includes(change.collection)) return undefined
  // Not looked into, passed on as it is (I13).
  if (view.filter === everything) return { type: op, text }
  const matched = matches(view.filter, entry.item)
  if (op !== 'update') return matched ? { type: op, text } : undefined
  const { previous } = entry
  if (previous === null) {
    if (matched) return { type: 'update', text }
    // Written before the log kept what was before: the client may hold the document or not, and is told to drop it;
    // unless it would learn of documents that it must not know.
    return view.restricted ? undefined : { type: 'delete', text: JSON.stringify({ id: change.id }) }
  }
  const matchedBefore = matches(view.filter, previous)
  if (matched) return { type: matchedBefore ? 'update' : 'insert', text }
  return matchedBefore ? { type: 'delete', text: previousText ?? 'null' } : undefined
}

/** The JSON of a change event. Texts come from jsonb and hold no line breaks. */
export function changeJson(entry: LogEntry, { type, text }: Seen, epoch: string, snapshot = false): string {
  const { collection, at, version, seq } = entry.change
  const position = formatPosition({ epoch, seq })
  return `{"type":"${type}","collection":"${collection}","data":${text},"timestamp":"${iso(at)}","version":${version},${
    snapshot ? '"snapshot":true' : `"position":"${position}"`
  }}`
}

/** The frame of a change, with the id that a client comes back with. */
export function changeFrame(view: View, entry: LogEntry, seen: Seen, epoch: string): string {
  const id = formatPosition({ epoch, seq: entry.change.seq })
  return `id: ${id}\n${frame(view.format, seen.type, changeJson(entry, seen, epoch))}`
}

/** A document of a snapshot. */
export function snapshotFrame(
  format: StreamFormat,
  collection: string,
  document: { text: string; version: number },
  now: number,
): string {
  const { text, version } = document
  const head = `{"type":"insert","collection":"${collection}","data":${text},"timestamp":"${iso(now)}"`
  return frame(format, 'insert', `${head},"version":${version},"snapshot":true}`)
}

/** An event that is no change: it carries no id, so that a client comes back to the change before it. */
export function controlFrame(
  view: View,
  type: ControlType,
  data: Readonly<Record<string, unknown>>,
  now: number,
): string {
  const [only, ...others] = view.collections ?? []
  const collection = others.length === 0 ? (only ?? null) : null
  return frame(view.format, type, JSON.stringify({ type, collection, data, timestamp: iso(now) }))
}

export const PING = ': ping\n\n'

/** Tells an EventSource how long to wait before it connects again. */
export function retryFrame(ms: number): string {
  return `retry: ${ms}\n\n`
}

export function frame(format: StreamFormat, type: string, json: string): string {
  return format === 'named' ? `event: ${type}\ndata: ${json}\n\n` : `data: ${json}\n\n`
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}

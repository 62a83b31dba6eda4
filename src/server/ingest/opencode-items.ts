import type { Item, Json } from '../schemas/item.js'
import { parseJson } from '../services/json.js'
import { storageFault } from '../services/storable.js'

/** An event as OpenCode's feeds carry it, and its history under other names. */
export interface OpencodeEvent {
  id: string
  type: string
  properties: { [key: string]: Json }
}

/** A message as GET /session/:id/message answers it. */
export interface OpencodeMessage {
  info: {
    id: string
    sessionID: string
    role: string
    time: { created: number; completed?: number }
    [key: string]: Json | undefined
  }
  parts: { type: string; text?: string; [key: string]: Json | undefined }[]
}

/** What the item of an event says beside the event itself. */
export interface EventFacts {
  /** When it happened, ISO 8601. */
  at: string
  /** Its number in the history of its session, for an event that OpenCode keeps. */
  seq?: number | undefined
}

/** What no store can hold although it is JSON: U+0000 and half of a surrogate pair. */
const UNSTORABLE = /[\0\p{Surrogate}]/gu
const storableText = (text: string) => text.replaceAll(UNSTORABLE, '\uFFFD')

/** An event as an item of opencode_events: its own id, so that it is stored once however often it is met. */
export function eventItem({ id, type, properties }: OpencodeEvent, { at, seq }: EventFacts): Item {
  const { sessionID } = properties
  return {
    id,
    event_type: storableText(type),
    event_data: kept(properties),
    source: 'opencode',
    severity: type === 'session.error' ? 'error' : 'info',
    ...(typeof sessionID === 'string' && { session_id: storableText(sessionID) }),
    ...(seq !== undefined && { seq }),
    created_at: at,
    updated_at: at,
  }
}

/** A message as an item of session_messages: its texts as the content, all of it in the metadata. */
export function messageItem({ info, parts }: OpencodeMessage): Item {
  const texts = parts.filter((part) => part.type === 'text').map((part) => part.text ?? '')
  return {
    id: info.id,
    session_id: info.sessionID,
    role: info.role,
    content: storableText(texts.join('\n')),
    metadata: kept({ info, parts } as unknown as { [key: string]: Json }),
    created_at: new Date(info.time.created).toISOString(),
    updated_at: new Date(info.time.completed ?? info.time.created).toISOString(),
  }
}

/** The value itself or, when a store could not hold it, its JSON text: the legacy form for raw events. */
function kept(value: { [key: string]: Json }): Json {
  const text = JSON.stringify(value)
  return isStorable(value, text) ? value : { rawEvent: text }
}

function isStorable(value: Json, text: string): boolean {
  // The value stands one level down in its item.
  if (storageFault(value, 'value', 1) !== undefined) return false
  // Names that reach an object's prototype are refused wherever JSON is taken in.
  if (!text.includes('__proto__') && !text.includes('constructor')) return true
  try {
    parseJson(Buffer.from(text))
    return true
  } catch {
    return false
  }
}

/** An id holds the low 36 bits of its time in milliseconds: 795 days, then it begins anew. */
const ID_TIME = /^[a-z]+_([0-9a-f]{12})/
const ID_PERIOD_MS = 2 ** 36

/**
 * When an event happened, epoch milliseconds: told by its id, to the period that what it carries, or else `now`, lies in.
 * Ids of another form leave it at that.
 */
export function eventTime({ id, properties }: OpencodeEvent, now: number): number {
  const near = carriedTime(properties) ?? now
  const digits = ID_TIME.exec(id)?.[1]
  if (digits === undefined) return near
  // 12 hexadecimal digits: the time, and three digits that count within a millisecond.
  const low = Number.parseInt(digits.slice(0, -3), 16)
  return low + Math.round((near - low) / ID_PERIOD_MS) * ID_PERIOD_MS
}

function carriedTime({ time, info }: { [key: string]: Json }): number | undefined {
  const inside = isObject(info) && isObject(info.time) ? info.time : {}
  return [time, inside.updated, inside.completed, inside.created].find(
    // Whatever else it may hold, it must be a time that a Date takes.
    (value): value is number => typeof value === 'number' && value > 0 && value < 8.64e15,
  )
}

function isObject(value: Json | undefined): value is { [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

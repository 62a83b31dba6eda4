import type { Json } from '../schemas/item.js'
import type { DocumentState, Provider, ProviderEvent, Touched } from './contract.js'
import { inTurns } from './in-turns.js'
import { objectsOfArray } from './json-array.js'
import {
  away,
  bodyOf,
  type OpencodeAddress,
  reasonOf,
  requestJson,
  requestOpencode,
  requireJson,
  requireOpencode,
} from './opencode-http.js'
import {
  eventItem,
  eventTime,
  messageItem,
  type OpencodeEvent,
  type OpencodeMessage,
} from './opencode-items.js'
import { CONNECTION_TYPES, KEPT_TYPES, KNOWN_TYPES } from './opencode-types.js'
import { sseMessages } from './sse.js'

export interface OpencodeOptions extends OpencodeAddress {
  /** Only what happens in this directory. Without it everything that the server does, in whatever directory. */
  directory?: string | undefined
  now?: () => number
}

/** A frame of GET /global/event. */
interface Frame {
  directory?: string
  payload: OpencodeEvent | { type: 'sync'; id?: string; syncEvent: SyncEvent & { aggregateID: string } }
}

/** An event as the history keeps it; `type` ends in the version of its form: message.updated.1 */
interface SyncEvent {
  id: string
  type: string
  seq: number
  data: { [key: string]: Json }
}

const MESSAGES = 'session_messages'
/** A heartbeat comes every 10 s. */
const SILENCE_MS = 30_000
const REQUEST_TIMEOUT_MS = 30_000
const MAX_MESSAGE = 64 * 1024 * 1024
/** Messages asked for at once, and on one page. */
const CONCURRENCY = 4
const MESSAGE_PAGE = 100
/**
 * Streams that may be named in one request for the history. 1.18.33 answers 500 from 997 on: SQLite's limit on the
 * depth of an expression.
 */
const MAX_NAMED = 900
/** Far more sessions than anybody has; without a limit only 100 are answered. */
const ALL_SESSIONS = 1_000_000

/**
 * Follows an OpenCode server. Its feed is /global/event and not /event: only there an event that OpenCode keeps comes
 * with its number, which is what catching up starts from, and only there events of every directory come, as they do
 * in the history. Neither feed replays anything.
 */
export function createOpencodeProvider(options: OpencodeOptions): Provider {
  const { directory, now = Date.now } = options
  /** Streams of other directories and how far they are: named to the history so that it leaves them out. */
  const foreign = new Map<string, number>()
  const limit = () => AbortSignal.timeout(REQUEST_TIMEOUT_MS)
  const within = (signal: AbortSignal) => AbortSignal.any([signal, limit()])
  const ask = <T>(path: string, signal: AbortSignal) =>
    requestJson<T>(options, path, { signal, mayBeMissing: true })

  const toEvent = (given: OpencodeEvent, kept?: ProviderEvent['kept']): ProviderEvent => {
    // Not every type's future form is known: one without properties is an event too.
    const event = { ...given, properties: given.properties ?? {} }
    const at = eventTime(event, now())
    const item = eventItem(event, { at: new Date(at).toISOString(), seq: kept?.seq })
    const touched = touchedBy(event)
    return {
      item,
      type: event.type,
      known: KNOWN_TYPES.has(event.type),
      at,
      size: JSON.stringify(item).length,
      ...(kept && { kept }),
      ...(touched && { touched }),
    }
  }

  const fromHistory = (stream: string, { id, type, seq, data }: SyncEvent): ProviderEvent => {
    const event = { id, type: type.replace(/\.\d+$/, ''), properties: data }
    return toEvent(event, { stream, seq })
  }

  /** The events of a feed's frames. A kept event comes as it is and then with its number; the second form counts. */
  async function* events(frames: AsyncIterable<string>): AsyncGenerator<ProviderEvent> {
    const keptTypes = new Set(KEPT_TYPES)
    let held: OpencodeEvent | undefined
    for await (const text of frames) {
      const { directory: place, payload } = JSON.parse(text) as Frame
      if (directory !== undefined && place !== directory) continue
      if ('syncEvent' in payload) {
        const { aggregateID, ...event } = payload.syncEvent
        const numbered = fromHistory(aggregateID, event)
        keptTypes.add(numbered.type)
        if (held !== undefined && held.id !== event.id) yield toEvent(held)
        held = undefined
        yield numbered
        continue
      }
      // Its number did not follow: better without than not at all.
      if (held !== undefined) yield toEvent(held)
      held = undefined
      if (CONNECTION_TYPES.has(payload.type)) continue
      if (keptTypes.has(payload.type)) held = payload
      else yield toEvent(payload)
    }
    if (held !== undefined) yield toEvent(held)
  }

  /** True when a stream of the history belongs to another directory; its first event tells. */
  const isForeign = (event: ProviderEvent, data: SyncEvent['data']): boolean => {
    if (directory === undefined || event.kept === undefined) return false
    const { stream, seq } = event.kept
    const info = data.info as { directory?: Json } | undefined
    if (event.type === 'session.created' && info?.directory !== directory) foreign.set(stream, seq)
    if (!foreign.has(stream)) return false
    foreign.set(stream, seq)
    return true
  }

  const readOne = async (touched: Touched): Promise<DocumentState> => {
    const path = `/session/${encodeURIComponent(touched.parent)}/message/${encodeURIComponent(touched.id)}`
    const message = await ask<OpencodeMessage>(path, limit())
    return message === undefined ? { touched } : { touched, item: messageItem(message) }
  }

  async function* messagesOf(session: string, signal: AbortSignal): AsyncGenerator<OpencodeMessage> {
    let before = ''
    do {
      const path = `/session/${encodeURIComponent(session)}/message?limit=${MESSAGE_PAGE}${before}`
      const response = await requestOpencode(options, path, { signal: within(signal), mayBeMissing: true })
      // The session was deleted in between.
      if (response.status === 404) return
      requireJson(options, path, response)
      yield* await bodyOf<OpencodeMessage[]>(options, response)
      const cursor = response.headers.get('x-next-cursor')
      before = cursor === null ? '' : `&before=${encodeURIComponent(cursor)}`
    } while (before !== '')
  }

  return {
    id: 'opencode',
    where: options.url,
    events: 'opencode_events',
    check: (signal) => requireOpencode(options, within(signal)),

    async open(signal) {
      const late = new AbortController()
      const timer = setTimeout(() => late.abort(), REQUEST_TIMEOUT_MS)
      const failed = (error: unknown) => away(options, reasonOf(error), error)
      try {
        const connection = AbortSignal.any([signal, late.signal])
        const response = await requestOpencode(options, '/global/event', { signal: connection })
        if (response.body === null) throw away(options, 'its feed is empty')
        const frames = sseMessages(response.body, { silenceMs: SILENCE_MS, maxMessage: MAX_MESSAGE })
        // The first frame says that the server has subscribed us.
        await frames.next().catch((error: unknown) => {
          throw failed(error)
        })
        return translated(events(frames), failed)
      } finally {
        clearTimeout(timer)
      }
    },

    async *history(known, signal) {
      // The longest ones are named; what comes again of the others is known by its number.
      const named = [...known, ...foreign].sort(([, a], [, b]) => b - a).slice(0, MAX_NAMED)
      const path = '/sync/history'
      const response = await requestOpencode(options, path, { body: Object.fromEntries(named), signal })
      requireJson(options, path, response)
      if (response.body === null) return
      const text = response.body.pipeThrough(new TextDecoderStream())
      const failed = (error: unknown) => away(options, `its history broke off: ${reasonOf(error)}`, error)
      for await (const object of translated(objectsOfArray(text), failed)) {
        const { aggregate_id, ...event } = JSON.parse(object) as SyncEvent & { aggregate_id: string }
        if (event.seq <= (known.get(aggregate_id) ?? -1)) continue
        const told = fromHistory(aggregate_id, event)
        if (!isForeign(told, event.data)) yield told
      }
    },

    async *remainder(known, signal) {
      // Sessions of before OpenCode kept a history have messages all the same.
      const place = directory === undefined ? '' : `&directory=${encodeURIComponent(directory)}`
      const sessions = await ask<{ id: string }[]>(`/session?limit=${ALL_SESSIONS}${place}`, within(signal))
      for (const { id } of sessions ?? []) {
        if (known.has(id) || foreign.has(id)) continue
        for await (const message of messagesOf(id, signal)) {
          const item = messageItem(message)
          yield { touched: { collection: MESSAGES, id: item.id, parent: id, removed: false }, item }
        }
      }
    },

    read: (touched) => inTurns(touched, CONCURRENCY, readOne),
  }
}

/** The message that an event has changed. A deleted session keeps its messages here, as it keeps its events. */
function touchedBy({ type, properties }: OpencodeEvent): Touched | undefined {
  if (!type.startsWith('message.') || !KEPT_TYPES.has(type)) return undefined
  const { sessionID, messageID, info, part } = properties as Record<string, { [key: string]: Json } | string>
  const id =
    messageID ??
    (info as { id?: Json } | undefined)?.id ??
    (part as { messageID?: Json } | undefined)?.messageID
  if (typeof id !== 'string' || typeof sessionID !== 'string') return undefined
  return { collection: MESSAGES, id, parent: sessionID, removed: type === 'message.removed' }
}

/** Passes a sequence on and gives its failures another form. */
async function* translated<T>(
  source: AsyncIterable<T>,
  translate: (error: unknown) => unknown,
): AsyncGenerator<T> {
  try {
    yield* source
  } catch (error) {
    throw translate(error)
  }
}

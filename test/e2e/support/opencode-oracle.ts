import { isDeepStrictEqual } from 'node:util'
import type { Pool } from '../../../src/server/db/pool.js'
import type { OpencodeEvent, OpencodeMessage } from '../../../src/server/ingest/opencode-items.js'
import { CONNECTION_TYPES, KEPT_TYPES } from '../../../src/server/ingest/opencode-types.js'
import type { Item } from '../../../src/server/schemas/item.js'
import { atEndOfFile } from '../../support/leaks.js'
import type { Opencode } from '../../support/opencode.js'

/** What a client beside the ingester has seen on GET /event, which is another feed than the ingester's. */
export interface SeenEvents {
  some(match: (event: OpencodeEvent) => boolean): boolean
  get(id: string): OpencodeEvent | undefined
  /** From here on whatever is seen must be stored, as long as the connection holds. */
  mustBeStored(): void
  /** What was seen need not be stored any more, as in stores that are new. */
  nothingMustBeStored(): void
  /** The events that must be stored although OpenCode may not keep them. */
  required(): OpencodeEvent[]
  /** Connects again, after a restart of OpenCode. */
  again(): Promise<void>
}

/** Follows the feed until the end of the file. */
export async function watchFeed(opencode: Opencode, password: string): Promise<SeenEvents> {
  const all = new Map<string, OpencodeEvent>()
  const required = new Set<string>()
  const stop = new AbortController()
  let isRequired = false

  const connect = async (): Promise<void> => {
    const authorization = `Basic ${Buffer.from(`opencode:${password}`).toString('base64')}`
    const headers = { authorization }
    const response = await fetch(`${opencode.url}/event`, { headers, signal: stop.signal })
    let first = () => {}
    const connected = new Promise<void>((resolve) => {
      first = resolve
    })
    const read = async () => {
      let buffer = ''
      for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
        buffer += chunk
        const frames = buffer.split('\n\n')
        buffer = frames.pop()!
        for (const frame of frames) {
          const event = JSON.parse(frame.replace(/^data: /, '')) as OpencodeEvent
          first()
          if (CONNECTION_TYPES.has(event.type)) continue
          all.set(event.id, event)
          if (isRequired) required.add(event.id)
        }
      }
    }
    // It ends with the server, and is not required to be complete from there on.
    read()
      .catch(() => {})
      .finally(() => {
        isRequired = false
      })
    await connected
  }
  await connect()
  atEndOfFile(async () => stop.abort())
  return {
    some: (match) => [...all.values()].some(match),
    get: (id) => all.get(id),
    mustBeStored() {
      isRequired = true
      required.clear()
    },
    nothingMustBeStored() {
      isRequired = false
      required.clear()
    },
    required: () => [...required].flatMap((id) => all.get(id) ?? []),
    again: connect,
  }
}

interface HistoryEvent {
  id: string
  seq: number
  type: string
  aggregate_id: string
  data: OpencodeEvent['properties']
}

/** Everything in which the stores differ from what OpenCode has and from what was seen; empty when all is well. */
export async function compare(opencode: Opencode, pool: Pool, seen: SeenEvents): Promise<string[]> {
  return [...(await compareEvents(opencode, pool, seen)), ...(await compareMessages(opencode, pool))]
}

async function compareEvents(opencode: Opencode, pool: Pool, seen: SeenEvents): Promise<string[]> {
  const history: HistoryEvent[] = await opencode.call('POST', '/sync/history', {})
  const stored = await documents(pool, 'opencode_events')
  const differences: string[] = []
  const differ = (id: string, what: string) => void differences.push(`event ${id} ${what}`)
  const kept = new Map(history.map((event) => [event.id, event]))
  for (const { id, seq, type, data, aggregate_id } of history) {
    const item = stored.get(id)?.item
    if (item === undefined) differ(id, `(${type}) is not stored`)
    else if (item.seq !== seq || item.session_id !== aggregate_id) differ(id, 'has another number or session')
    else if (item.event_type !== type.replace(/\.\d+$/, '')) differ(id, `is stored as ${item.event_type}`)
    else if (!isDeepStrictEqual(raw(item.event_data), data)) differ(id, 'has other data')
  }
  for (const { id, type } of seen.required())
    if (!stored.has(id)) differ(id, `(${type}) was seen and is not stored`)
  for (const [id, { item, version }] of stored) {
    if (version !== 1) differ(id, `was written ${version} times`)
    if (kept.has(id)) continue
    const event = seen.get(id)
    if (event !== undefined) {
      if (!isDeepStrictEqual(raw(item.event_data), event.properties))
        differ(id, 'has other data than was seen')
    } else if (KEPT_TYPES.has(String(item.event_type))) differ(id, `(${item.event_type}) comes from nowhere`)
  }
  return differences
}

async function compareMessages(opencode: Opencode, pool: Pool): Promise<string[]> {
  const stored = await documents(pool, 'session_messages')
  const sessions: { id: string }[] = await opencode.call('GET', '/session?limit=1000')
  const differences: string[] = []
  const living = new Set<string>()
  for (const { id: session } of sessions) {
    const messages: OpencodeMessage[] = await opencode.call('GET', `/session/${session}/message`)
    for (const message of messages) {
      const { id, role } = message.info
      living.add(id)
      const item = stored.get(id)?.item
      if (item === undefined) differences.push(`message ${id} is not stored`)
      else if (!isDeepStrictEqual(raw(item.metadata), message)) differences.push(`message ${id} is another`)
      else if (item.session_id !== session || item.role !== role)
        differences.push(`message ${id} is misplaced`)
    }
  }
  const ids = new Set(sessions.map(({ id }) => id))
  for (const [id, { item }] of stored) {
    if (!living.has(id) && ids.has(String(item.session_id))) differences.push(`message ${id} should be gone`)
  }
  return differences
}

async function documents(
  pool: Pool,
  collection: string,
): Promise<Map<string, { item: Item; version: number }>> {
  const { rows } = await pool.query<{ id: string; item: Item; version: number }>(
    'SELECT id, item, version FROM dualstore.documents WHERE collection = $1',
    [collection],
  )
  return new Map(rows.map((row) => [row.id, row]))
}

/** The value itself, or what its raw text holds when no store could hold it. */
function raw(value: unknown): unknown {
  const { rawEvent } = value as { rawEvent?: string }
  return rawEvent === undefined ? value : JSON.parse(rawEvent)
}

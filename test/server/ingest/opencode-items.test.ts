import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  eventItem,
  eventTime,
  messageItem,
  type OpencodeEvent,
  type OpencodeMessage,
} from '../../../src/server/ingest/opencode-items.js'
import { KNOWN_TYPES } from '../../../src/server/ingest/opencode-types.js'
import { shippedCollections } from '../../../src/server/schemas/shipped-collections.js'
import { compileItemValidator, ownFields } from '../../../src/server/services/item-validator.js'
import { parseJson } from '../../../src/server/services/json.js'
import { json } from '../../support/items.js'
import { recordedEvents, recordedMessages } from '../../support/recording.js'

const validate = (name: string) =>
  compileItemValidator(shippedCollections.find((collection) => collection.name === name)!.schema)
const validEvent = validate('opencode_events')
const validMessage = validate('session_messages')

const properties = fc.dictionary(fc.string({ unit: 'binary' }), json)
const parts = fc.array(
  fc.record({
    type: fc.constantFrom('text', 'tool', 'file'),
    text: fc.string({ unit: 'binary' }),
    more: json,
  }),
)

test('any event becomes an item that every store can hold, and from which it can be read back', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), properties, (type, given) => {
      const event: OpencodeEvent = { id: 'evt_1', type, properties: given }
      const text = JSON.stringify(eventItem(event, { at: '2026-01-01T00:00:00.000Z' }))
      const item = parseJson(Buffer.from(text)) as ReturnType<typeof eventItem>
      expect(validEvent(ownFields(item), 'item')).toBeUndefined()
      const { rawEvent } = item.event_data as { rawEvent?: string }
      const told =
        typeof rawEvent === 'string' && !Object.hasOwn(given, 'rawEvent')
          ? JSON.parse(rawEvent)
          : item.event_data
      expect(JSON.stringify(told)).toBe(JSON.stringify(given))
    }),
  )
})

test('any message becomes an item that every store can hold, and from which it can be read back', () => {
  fc.assert(
    fc.property(parts, (some) => {
      const info = { id: 'msg_1', sessionID: 'ses_1', role: 'user', time: { created: 1 } }
      const message = { info, parts: some } as OpencodeMessage
      const text = JSON.stringify(messageItem(message))
      const item = parseJson(Buffer.from(text)) as ReturnType<typeof messageItem>
      expect(validMessage(ownFields(item), 'item')).toBeUndefined()
      const { rawEvent } = item.metadata as { rawEvent?: string }
      expect(JSON.stringify(rawEvent === undefined ? item.metadata : JSON.parse(rawEvent))).toBe(
        JSON.stringify(message),
      )
    }),
  )
})

test('an event without its number, a session or an error has no seq, no session_id and severity info', () => {
  const at = '2026-01-01T00:00:00.000Z'
  expect(eventItem({ id: 'evt_1', type: 'tui.toast.show', properties: { a: 1 } }, { at })).toEqual({
    id: 'evt_1',
    event_type: 'tui.toast.show',
    event_data: { a: 1 },
    source: 'opencode',
    severity: 'info',
    created_at: at,
    updated_at: at,
  })
  expect(
    eventItem({ id: 'evt_2', type: 'session.error', properties: { sessionID: 'ses_1' } }, { at, seq: 3 }),
  ).toMatchObject({ seq: 3, session_id: 'ses_1', severity: 'error' })
})

test('the texts of a message are its content; of what no store holds the content shows U+FFFD', async () => {
  const items = (await recordedMessages()).map((message) => ({ message, item: messageItem(message) }))
  for (const { message, item } of items) {
    const texts = message.parts.filter(({ type }) => type === 'text').map(({ text }) => text)
    expect(item.content).toBe(texts.join('\n').replaceAll(/[\0\p{Surrogate}]/gu, '\uFFFD'))
    expect(item).toMatchObject({ id: message.info.id, session_id: message.info.sessionID })
  }
  expect(items.filter(({ item }) => String(item.content).includes('\uFFFD')).length).toBeGreaterThan(1)
})

test('every event of the recording happened, by its id, when it was received', async () => {
  const events = await recordedEvents()
  for (const { event, received_at } of events) {
    const received = Date.parse(received_at)
    // Years later, too, when it carries a time; what carries none is taken to be recent.
    const { info, time } = event.properties as { info?: { time?: object }; time?: number }
    const laterOn = info?.time !== undefined || time !== undefined ? 3e11 : 0
    expect(Math.abs(eventTime(event, received + laterOn) - received), event.id).toBeLessThan(5000)
  }
  expect(events.length).toBeGreaterThan(100)
})

test('an id of another form leaves the time at what the event carries, or at now', () => {
  expect(eventTime({ id: 'x', type: 't', properties: { time: 5 } }, 9)).toBe(5)
  expect(eventTime({ id: 'x', type: 't', properties: { time: 'soon', info: null } }, 9)).toBe(9)
})

test('every type of the recording is known', async () => {
  const types = new Set((await recordedEvents()).map(({ event }) => event.type))
  for (const connection of ['server.connected', 'server.heartbeat']) types.delete(connection)
  expect([...types].filter((type) => !KNOWN_TYPES.has(type))).toEqual([])
})

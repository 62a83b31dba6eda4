#!/usr/bin/env node
// Turns a recording of an OpenCode server (test/fixtures/opencode) into items that `collections import` takes:
//   node scripts/opencode-items.js events   < events.ndjson   > items of opencode_events
//   node scripts/opencode-items.js messages < messages.ndjson > items of session_messages
import { createInterface } from 'node:readline'

/** What PostgreSQL's jsonb cannot hold although it is JSON: U+0000 and half of a surrogate pair. */
const UNSTORABLE = /[\0\p{Surrogate}]/gu

/** True when every text in a value, keys included, can be stored. */
const isStorable = (value) =>
  JSON.stringify(value, (key, member) => {
    if (key.search(UNSTORABLE) !== -1) return undefined
    return typeof member === 'string' && member.search(UNSTORABLE) !== -1 ? undefined : member
  }) === JSON.stringify(value)

/** The value itself, or its JSON text, in which such characters are escapes: the legacy form for raw events. */
const kept = (value) => (isStorable(value) ? value : { rawEvent: JSON.stringify(value) })

/** @param {{received_at: string, event: {id: string, type: string, properties: object}}} record */
export function eventItem({ received_at, event }) {
  const { sessionID } = event.properties
  return {
    id: event.id,
    event_type: event.type,
    event_data: kept(event.properties),
    source: 'opencode',
    severity: event.type === 'session.error' ? 'error' : 'info',
    ...(typeof sessionID === 'string' && { session_id: sessionID }),
    created_at: received_at,
    updated_at: received_at,
  }
}

/** @param {{session_id: string, message: {info: object, parts: object[]}}} record */
export function messageItem({ session_id, message: { info, parts } }) {
  const texts = parts.filter((part) => part.type === 'text').map((part) => part.text)
  const created = new Date(info.time.created).toISOString()
  return {
    id: info.id,
    session_id,
    role: info.role,
    content: texts.join('\n').replaceAll(UNSTORABLE, '\uFFFD'),
    metadata: kept({ info, parts }),
    created_at: created,
    updated_at: new Date(info.time.completed ?? info.time.created).toISOString(),
  }
}

const converters = { events: eventItem, messages: messageItem }

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const convert = converters[process.argv[2]]
  if (convert === undefined) {
    console.error('usage: opencode-items.js events|messages < recording.ndjson')
    process.exit(2)
  }
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(convert(JSON.parse(line))))
  }
}

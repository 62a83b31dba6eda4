#!/usr/bin/env node
// Turns a recording of an OpenCode server (test/fixtures/opencode) into items that `collections import` takes, as
// `dualstore ingest` does with a server that runs; needs `npm run build`:
//   node scripts/opencode-items.js events   < events.ndjson   > items of opencode_events
//   node scripts/opencode-items.js messages < messages.ndjson > items of session_messages
import { createInterface } from 'node:readline'
import { eventItem, messageItem } from '../dist/src/server/ingest/opencode-items.js'

const converters = {
  events: ({ received_at, event }) => eventItem(event, { at: received_at }),
  messages: ({ message }) => messageItem(message),
}

const convert = converters[process.argv[2]]
if (convert === undefined) {
  console.error('usage: opencode-items.js events|messages < recording.ndjson')
  process.exit(2)
}
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(convert(JSON.parse(line))))
}

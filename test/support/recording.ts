import { readFile } from 'node:fs/promises'
import {
  eventItem,
  messageItem,
  type OpencodeEvent,
  type OpencodeMessage,
} from '../../src/server/ingest/opencode-items.js'
import type { Item } from '../../src/server/schemas/item.js'

/** An event of the recording, and when it was received (ISO 8601). */
export interface RecordedEvent {
  received_at: string
  event: OpencodeEvent
}

async function recording<T>(file: string): Promise<T[]> {
  const text = await readFile(new URL(`../fixtures/opencode/${file}`, import.meta.url), 'utf8')
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T)
}

/** What a real OpenCode server emitted, in the order it came. */
export const recordedEvents = () => recording<RecordedEvent>('events.ndjson')

/** All messages that it had in the end. */
export const recordedMessages = async () =>
  (await recording<{ message: OpencodeMessage }>('messages.ndjson')).map(({ message }) => message)

/** The same as items of opencode_events, created when they were received. */
export async function eventItems(): Promise<Item[]> {
  return (await recordedEvents()).map(({ received_at, event }) => eventItem(event, { at: received_at }))
}

/** The same as items of session_messages. */
export const messageItems = async (): Promise<Item[]> => (await recordedMessages()).map(messageItem)

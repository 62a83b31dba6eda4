import { createParser } from 'eventsource-parser'
import { DualstoreClientError } from './errors.js'
import type { OpenAnswer } from './http.js'
import { textsOf } from './lines.js'

/** One server-sent event. */
export interface ServerEvent {
  name: string
  id: string | undefined
  /** The envelope of docs/streams.md. */
  envelope: Envelope
}

export interface Envelope {
  type?: unknown
  data?: Record<string, unknown>
}

/** Characters of one event; a server that sends more is not one of ours. */
const MAX_EVENT = 64 * 1024 * 1024

/**
 * The events of one connection, until it ends. No more is read than one chunk of the network ahead of the consumer.
 * @param onRetry Called with each `retry:`, in milliseconds.
 */
export async function* serverEvents(
  answer: OpenAnswer,
  onRetry: (ms: number) => void,
): AsyncGenerator<ServerEvent> {
  const events: ServerEvent[] = []
  let fault: Error | undefined
  const parser = createParser({
    maxBufferSize: MAX_EVENT,
    onRetry,
    onEvent: ({ event, id, data }) => {
      const envelope = parsed(data)
      // A server may be set to send events without names; the type is in them all the same.
      events.push({ name: event ?? String(envelope.type), id, envelope })
    },
    onError: (error) => {
      // Unknown fields are to be ignored, as the format's standard has it.
      if (error.type === 'max-buffer-size-exceeded') fault = error
    },
  })
  for await (const text of textsOf(answer)) {
    parser.feed(text)
    if (fault !== undefined) {
      throw new DualstoreClientError('INVALID_ANSWER', 'an event is too long', { cause: fault })
    }
    yield* events.splice(0)
  }
}

function parsed(data: string): Envelope {
  try {
    const value: unknown = JSON.parse(data)
    if (typeof value === 'object' && value !== null) return value
    throw new TypeError('it is no object')
  } catch (cause) {
    throw new DualstoreClientError('INVALID_ANSWER', 'an event does not hold a JSON object', { cause })
  }
}

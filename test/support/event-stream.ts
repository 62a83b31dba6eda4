import { get, type IncomingMessage } from 'node:http'
import { createParser } from 'eventsource-parser'
import { atEndOfFile } from './leaks.js'

/** An event as it came over the wire. */
export interface StreamEvent {
  id: string | undefined
  event: string | undefined
  // biome-ignore lint/suspicious/noExplicitAny: the JSON of any event
  data: any
}

/** A client of a stream that keeps everything it was sent. */
export interface TestStream {
  status: number
  headers: IncomingMessage['headers']
  events: readonly StreamEvent[]
  comments: readonly string[]
  /** The last `retry:` that was sent. */
  retry: number | undefined
  /** The body, when the answer was none of 200. */
  body: string
  /** Resolves with the first event, also of those that came before, that passes. Rejects when the stream ends first. */
  until(passes: (event: StreamEvent) => boolean): Promise<StreamEvent>
  /** `insert`, `update` and `delete` so far, without those of a snapshot. */
  changes(): StreamEvent[]
  /** Stops reading, so that the socket fills. */
  pause(): void
  resume(): void
  /** Resolves when the server has ended the stream or the connection is gone. */
  ended: Promise<void>
  close(): void
}

export const CHANGES = new Set(['insert', 'update', 'delete'])

/** Opens a stream with plain HTTP and an independent parser; closed after the file's last test when it is open still. */
export async function openStream(url: string, headers: Record<string, string> = {}): Promise<TestStream> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const request = get(url, { headers, agent: false }, resolve)
    request.once('error', reject)
  })
  response.setEncoding('utf8')
  const events: StreamEvent[] = []
  const comments: string[] = []
  const watchers = new Set<() => void>()
  let over = false
  let retry: number | undefined
  let body = ''
  const parser = createParser({
    onEvent: ({ id, event, data }) => {
      events.push({ id, event, data: JSON.parse(data) })
      for (const watch of [...watchers]) watch()
    },
    onComment: (comment) => comments.push(comment),
    onRetry: (ms) => {
      retry = ms
    },
  })
  response.on('data', (text: string) => {
    if (response.statusCode === 200) parser.feed(text)
    else body += text
  })
  const ended = new Promise<void>((resolve) => {
    response.once('close', () => {
      over = true
      for (const watch of [...watchers]) watch()
      resolve()
    })
  })
  response.on('error', () => {})
  const close = () => void response.destroy()
  atEndOfFile(async () => close())
  if (response.statusCode !== 200) await ended
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    events,
    comments,
    get retry() {
      return retry
    },
    get body() {
      return body
    },
    until: (passes) =>
      new Promise((resolve, reject) => {
        const watch = () => {
          const found = events.find(passes)
          if (found === undefined && !over) return
          watchers.delete(watch)
          if (found !== undefined) resolve(found)
          else reject(new Error(`the stream ended before the event; it sent ${JSON.stringify(events)}`))
        }
        watchers.add(watch)
        watch()
      }),
    changes: () => events.filter(({ data }) => CHANGES.has(data.type) && data.snapshot === undefined),
    pause: () => response.pause(),
    resume: () => response.resume(),
    ended,
    close,
  }
}

/** Passes an event of this type. */
export const ofType = (type: string) => (event: StreamEvent) => event.data.type === type

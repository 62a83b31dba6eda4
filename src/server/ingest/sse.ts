import { createParser } from 'eventsource-parser'

export interface SseOptions {
  /** Longest time without a byte; then the connection is given up, because a dead one looks the same. */
  silenceMs: number
  /** Most characters of one message. */
  maxMessage: number
}

/**
 * The data of each message of an event stream, in order. Bytes are read only when the messages before are taken, so
 * that a slow reader slows the sender; the time a reader takes does not count as silence.
 * @throws when the connection breaks, is silent for too long or carries a message that is too large.
 */
export async function* sseMessages(
  body: ReadableStream<Uint8Array>,
  { silenceMs, maxMessage }: SseOptions,
): AsyncGenerator<string> {
  let messages: string[] = []
  let failure: Error | undefined
  const parser = createParser({
    maxBufferSize: maxMessage,
    onEvent: ({ data }) => messages.push(data),
    onError: (error) => {
      if (error.type === 'max-buffer-size-exceeded') failure = error
    },
  })
  const decoder = new TextDecoder()
  const reader = body.getReader()
  try {
    for (;;) {
      const { done, value } = await unlessSilent(reader, silenceMs)
      if (done) return
      parser.feed(decoder.decode(value, { stream: true }))
      const complete = messages
      messages = []
      yield* complete
      if (failure !== undefined) throw failure
    }
  } finally {
    // Not awaited: to end a connection that hangs can take for ever.
    reader.cancel().catch(() => {})
  }
}

async function unlessSilent(reader: ReadableStreamDefaultReader<Uint8Array>, silenceMs: number) {
  let timer: NodeJS.Timeout | undefined
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing came for ${silenceMs} ms`)), silenceMs)
  })
  try {
    return await Promise.race([reader.read(), silence])
  } finally {
    clearTimeout(timer)
  }
}

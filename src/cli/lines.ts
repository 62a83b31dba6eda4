import type { Readable } from 'node:stream'

/** What has passed through a stream of NDJSON so far. */
export interface Meter {
  bytes: number
  lines: number
}

const NEWLINE = 0x0a
/** A line longer than this is passed on in parts; whether it is too long is for the reader to say. */
const MAX_HELD = 16 * 1024 * 1024

/**
 * Passes whole lines on and counts them. When the signal is aborted the stream ends behind the last whole line, so
 * that an interrupted import is an import of fewer lines, with a report that is exact.
 */
export async function* wholeLines(
  source: Readable,
  meter: Meter,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const stop = () => void source.destroy()
  signal.addEventListener('abort', stop, { once: true })
  let held: Buffer[] = []
  let heldBytes = 0
  try {
    if (signal.aborted) return
    for await (const chunk of source as AsyncIterable<Buffer>) {
      meter.bytes += chunk.length
      meter.lines += countLines(chunk)
      const end = chunk.lastIndexOf(NEWLINE) + 1
      if (end > 0) {
        yield Buffer.concat([...held, chunk.subarray(0, end)])
        held = []
        heldBytes = 0
      }
      if (end < chunk.length) {
        held.push(chunk.subarray(end))
        heldBytes += chunk.length - end
      }
      if (heldBytes > MAX_HELD) {
        yield Buffer.concat(held)
        held = []
        heldBytes = 0
      }
      if (signal.aborted) return
    }
  } catch (error) {
    // Destroying the source is how the loop above is ended while it waits.
    if (!signal.aborted) throw error
    return
  } finally {
    signal.removeEventListener('abort', stop)
  }
  if (heldBytes > 0 && !signal.aborted) {
    meter.lines++
    yield Buffer.concat(held)
  }
}

export function countLines(chunk: Uint8Array): number {
  let count = 0
  for (let at = chunk.indexOf(NEWLINE); at !== -1; at = chunk.indexOf(NEWLINE, at + 1)) count++
  return count
}

/** The lines of a text that comes in pieces, without their ends; blank ones are left out. */
export async function* splitLines(chunks: AsyncIterable<Uint8Array | string>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let held = ''
  for await (const chunk of chunks) {
    held += typeof chunk === 'string' ? chunk : decoder.decode(chunk, { stream: true })
    const lines = held.split('\n')
    held = lines.pop() ?? ''
    for (const line of lines) if (line !== '') yield line
  }
  if (held !== '') yield held
}

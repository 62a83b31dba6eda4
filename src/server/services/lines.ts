import type { Readable } from 'node:stream'
import { DualstoreError } from '../errors.js'

const NEWLINE = 0x0a

/** Most lines that are yielded together, however large the chunks of the stream are. */
const MOST_LINES = 500

/**
 * Splits a stream of bytes into lines without their newline: those that arrived together, come together, and nobody
 * waits for more. Holds a chunk of the stream and one line at most. Written by hand because the line splitters at hand
 * decode as they go and turn bytes that are not UTF-8 into U+FFFD, silently.
 * @throws PAYLOAD_TOO_LARGE for a line longer than the limit, naming it; nothing behind it is read.
 */
export async function* readLines(source: Readable, maxLineBytes: number): AsyncGenerator<Buffer[]> {
  let parts: Buffer[] = []
  let length = 0
  let line = 1
  for await (const chunk of source as AsyncIterable<Buffer>) {
    let lines: Buffer[] = []
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      const rest = chunk.subarray(start, end)
      length += rest.length
      if (length > maxLineBytes) break
      lines.push(parts.length === 0 ? rest : Buffer.concat([...parts, rest]))
      parts = []
      length = 0
      line++
      start = end + 1
      if (lines.length < MOST_LINES) continue
      yield lines
      lines = []
    }
    if (length <= maxLineBytes && start < chunk.length) {
      parts.push(chunk.subarray(start))
      length += chunk.length - start
    }
    if (lines.length > 0) yield lines
    if (length > maxLineBytes) throw overlong(line, maxLineBytes)
  }
  if (length > 0) yield [Buffer.concat(parts)]
}

function overlong(line: number, maxLineBytes: number): DualstoreError {
  const field = `line ${line}`
  const message = `must not be longer than ${maxLineBytes} bytes`
  return new DualstoreError('PAYLOAD_TOO_LARGE', `${field} ${message}; nothing behind it was read`, {
    details: [{ field, message }],
  })
}

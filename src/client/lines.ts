import { DualstoreClientError } from './errors.js'
import type { OpenAnswer } from './http.js'

/** The texts of a body as they come, read only as fast as they are taken. Ends the answer's watch. */
export async function* textsOf({ response, watch }: OpenAnswer): AsyncGenerator<string> {
  // Not `for await` over the body: Safari's has no async iterator.
  const reader = response.body?.getReader()
  const decoder = new TextDecoder()
  try {
    for (;;) {
      const chunk = reader && (await watch.during(reader.read()))
      if (chunk === undefined || chunk.done) break
      yield decoder.decode(chunk.value, { stream: true })
    }
    yield decoder.decode()
  } finally {
    watch.end()
  }
}

/** Each line of NDJSON, parsed. */
export async function* jsonLines(answer: OpenAnswer): AsyncGenerator<unknown> {
  // Parts are joined once a line is whole: a long one is not copied again for each chunk.
  let parts: string[] = []
  for await (const text of textsOf(answer)) {
    const lines = text.split('\n')
    for (const [index, line] of lines.entries()) {
      parts.push(line)
      if (index === lines.length - 1) break
      const whole = parts.join('')
      parts = []
      if (whole !== '') yield parsed(whole)
    }
  }
  const rest = parts.join('')
  if (rest !== '') yield parsed(rest)
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch (cause) {
    throw new DualstoreClientError('INVALID_ANSWER', 'a line of the answer is not JSON', { cause })
  }
}

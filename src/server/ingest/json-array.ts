const [QUOTE, BACKSLASH, OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [
  0x22, 0x5c, 0x5b, 0x5d, 0x7b, 0x7d,
]

/**
 * Yields the text of each object of a JSON array of objects as it arrives, holding one of them at most: a history can
 * be far larger than memory. Only the brackets are followed; whether an object is JSON is for its parser to say.
 * @throws SyntaxError when the text ends before the array does, or is no array of objects.
 */
export async function* objectsOfArray(chunks: AsyncIterable<string>): AsyncGenerator<string> {
  let depth = 0
  let inString = false
  let escaped = false
  let begun: string[] = []
  for await (const chunk of chunks) {
    let start = 0
    for (let at = 0; at < chunk.length; at++) {
      const code = chunk.charCodeAt(at)
      if (escaped) escaped = false
      else if (inString) {
        if (code === QUOTE) inString = false
        else if (code === BACKSLASH) escaped = true
      } else if (code === QUOTE) inString = true
      else if (code === OPEN_ARRAY || code === OPEN_OBJECT) {
        if (depth === 0 && code !== OPEN_ARRAY) throw new SyntaxError('not a JSON array')
        if (depth === 1 && code === OPEN_OBJECT) start = at
        depth++
      } else if (code === CLOSE_ARRAY || code === CLOSE_OBJECT) {
        depth--
        if (depth === 1) {
          yield begun.join('') + chunk.slice(start, at + 1)
          begun = []
        } else if (depth === 0) return
      }
    }
    if (depth > 1) begun.push(chunk.slice(start))
  }
  throw new SyntaxError('the JSON array ends too early')
}

import { Readable } from 'node:stream'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readLines } from '../../../src/server/services/lines.js'

/** The lines of a text that arrives in pieces of the given sizes, repeated. */
async function linesOf(text: string, sizes: readonly number[], maxLineBytes = 1000): Promise<string[]> {
  const bytes = Buffer.from(text)
  const chunks: Buffer[] = []
  for (let from = 0, turn = 0; from < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1
    chunks.push(bytes.subarray(from, from + size))
    from += size
  }
  const lines: string[] = []
  for await (const some of readLines(Readable.from(chunks), maxLineBytes)) lines.push(...some.map(String))
  return lines
}

describe('lines of a stream', () => {
  test('are the same however the stream is cut', async () => {
    const text = fc.array(fc.constantFrom('a', 'é', '\n', '{"x": 1}', '😀'), { maxLength: 60 })
    const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 })
    await fc.assert(
      fc.asyncProperty(text, sizes, async (parts, cut) => {
        const whole = parts.join('')
        const expected = whole.split('\n')
        // What follows the last newline is a line only when there is something.
        if (expected.at(-1) === '') expected.pop()
        expect(await linesOf(whole, cut)).toEqual(expected)
      }),
    )
  })

  test('come in parts of bounded size from one large chunk', async () => {
    const source = Readable.from([Buffer.from('x\n'.repeat(2345))])
    const counts: number[] = []
    for await (const lines of readLines(source, 10)) counts.push(lines.length)
    expect(Math.max(...counts)).toBeLessThanOrEqual(500)
    expect(counts.reduce((sum, count) => sum + count)).toBe(2345)
  })

  test('come as they arrive, without waiting for more', async () => {
    const source = new Readable({ read() {} })
    const lines = readLines(source, 10)
    source.push('one\ntwo\nthr')
    expect((await lines.next()).value?.map(String)).toEqual(['one', 'two'])
    source.push('ee\n')
    expect((await lines.next()).value?.map(String)).toEqual(['three'])
    source.push(null)
    expect((await lines.next()).done).toBe(true)
  })

  test.each([[[1]], [[7]], [[1000]]])(
    'behind one that is too long are not read, cut by %j',
    async (sizes) => {
      const read: string[] = []
      const all = async () => {
        const bytes = Buffer.from('short\nmuch too long\nnever')
        const size = sizes[0] ?? 1
        const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
          bytes.subarray(index * size, (index + 1) * size),
        )
        for await (const lines of readLines(Readable.from(chunks), 8)) read.push(...lines.map(String))
      }
      await expect(all()).rejects.toMatchObject({
        code: 'PAYLOAD_TOO_LARGE',
        details: [{ field: 'line 2' }],
      })
      expect(read).toEqual(['short'])
    },
  )
})

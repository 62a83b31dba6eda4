import fc from 'fast-check'
import { expect, test } from 'vitest'
import { objectsOfArray } from '../../../src/server/ingest/json-array.js'
import { json } from '../../support/items.js'

async function* pieces(text: string, size: number): AsyncGenerator<string> {
  for (let start = 0; start < text.length; start += size) yield text.slice(start, start + size)
}

async function read(text: string, size = 7): Promise<unknown[]> {
  const objects: unknown[] = []
  for await (const object of objectsOfArray(pieces(text, size))) objects.push(JSON.parse(object))
  return objects
}

test('the objects of an array are what JSON.parse reads, wherever the text is cut', async () => {
  const objects = fc.array(json.map((value) => ({ value, 'a"]}': '[{\\' })))
  await fc.assert(
    fc.asyncProperty(
      objects,
      fc.integer({ min: 1, max: 40 }),
      fc.constantFrom(undefined, 2),
      async (value, size, indent) => {
        const text = JSON.stringify(value, null, indent)
        expect(await read(text, size)).toEqual(JSON.parse(text))
      },
    ),
  )
})

test('an array that ends too early is an error behind its whole objects', async () => {
  const seen: string[] = []
  const reading = async () => {
    for await (const object of objectsOfArray(pieces('[{"a":1},{"a":', 3))) seen.push(object)
  }
  await expect(reading()).rejects.toThrow(SyntaxError)
  expect(seen).toEqual(['{"a":1}'])
})

test.each(['', '<html>', '{"error": []}'])('what is no array is an error: %j', async (text) => {
  await expect(read(text)).rejects.toThrow(SyntaxError)
})

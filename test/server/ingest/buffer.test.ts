import { expect, test } from 'vitest'
import { createEventBuffer, inBatches } from '../../../src/server/ingest/buffer.js'
import type { ProviderEvent } from '../../../src/server/ingest/contract.js'

const limits = { maxEvents: 4, maxSize: 100, batchEvents: 3, batchSize: 50, lingerMs: 20, patienceMs: 30 }

function event(id: string, size = 1): ProviderEvent {
  const item = { id, created_at: '', updated_at: '' }
  return { item, type: 't', known: true, at: 0, size }
}
const ids = (events: readonly ProviderEvent[]) => events.map(({ item }) => item.id).join('')

test('a batch is as large as its limits allow, in the order of arrival', async () => {
  const buffer = createEventBuffer(limits)
  for (const id of 'abcd') expect(await buffer.push(event(id))).toBe(true)
  expect(ids(await buffer.take())).toBe('abc')
  expect(ids(await buffer.take())).toBe('d')
  expect(buffer.waiting).toBe(0)
})

test('an event larger than a batch makes a batch of its own', async () => {
  const buffer = createEventBuffer(limits)
  await buffer.push(event('a', 10))
  await buffer.push(event('b', 80))
  expect(ids(await buffer.take())).toBe('a')
  expect(ids(await buffer.take())).toBe('b')
})

test('events that come one after the other share a batch', async () => {
  const buffer = createEventBuffer({ ...limits, lingerMs: 10_000 })
  const taken = buffer.take()
  for (const id of 'abc') await buffer.push(event(id))
  expect(ids(await taken)).toBe('abc')
})

test('a full buffer makes whoever fills it wait until there is room', async () => {
  const buffer = createEventBuffer({ ...limits, patienceMs: 10_000 })
  for (const id of 'abcd') await buffer.push(event(id))
  const pushed = buffer.push(event('e'))
  await buffer.take()
  expect(await pushed).toBe(true)
  expect(ids(await buffer.take())).toBe('de')
})

test('a buffer that stays full refuses the event', async () => {
  const buffer = createEventBuffer(limits)
  await buffer.push(event('a', 100))
  expect(await buffer.push(event('b'))).toBe(false)
  expect(buffer.waiting).toBe(1)
})

test('a closed buffer gives what it has and then nothing', async () => {
  const buffer = createEventBuffer({ ...limits, lingerMs: 10_000 })
  await buffer.push(event('a'))
  const taken = buffer.take()
  buffer.close()
  expect(ids(await taken)).toBe('a')
  expect(await buffer.take()).toEqual([])
  expect(await buffer.push(event('b'))).toBe(false)
})

test('a sequence is gathered into batches within the limits', async () => {
  async function* sequence() {
    yield* [event('a', 30), event('b', 30), event('c'), event('d'), event('e'), event('f', 70)]
  }
  const batches: string[] = []
  for await (const batch of inBatches(sequence(), limits)) batches.push(ids(batch))
  expect(batches).toEqual(['a', 'bcd', 'e', 'f'])
})

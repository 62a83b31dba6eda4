import { expect, test } from 'vitest'
import {
  createDocumentCache,
  type DocumentCacheOptions,
} from '../../../src/server/services/document-cache.js'
import { until } from '../../support/follower.js'

const MINUTE_MS = 60_000

/** A cache that is always current, unless told otherwise. */
function cacheOf(options: Partial<DocumentCacheOptions> = {}) {
  const cache = createDocumentCache({
    maxBytes: 1024 ** 2,
    ttlMs: MINUTE_MS,
    currentAt: () => performance.now(),
    ...options,
  })
  const keep = (id: string, version = 1, text = `{"id":"${id}"}`) => {
    const fill = cache.beginFill()
    fill.keep('notes', { id, version, text })
    fill.end()
  }
  return { cache, keep }
}

test('what was read is answered until it is forgotten', () => {
  const { cache, keep } = cacheOf()
  keep('a', 3)
  expect(cache.find('notes', 'a')).toEqual({
    version: 3,
    etag: '"3"',
    body: '{"success":true,"data":{"id":"a"}}',
  })
  expect(cache.find('notes', 'b')).toBeUndefined()
  expect(cache.find('tasks', 'a')).toBeUndefined()
  cache.forget('notes', 'a')
  expect(cache.find('notes', 'a')).toBeUndefined()
  expect(cache.standing).toMatchObject({ hits: 1, misses: 3, documents: 0, bytes: 0 })
})

test('a reading that a write has overtaken is not kept, and others beside it are', () => {
  const { cache } = cacheOf()
  const fill = cache.beginFill()
  cache.forget('notes', 'written')
  fill.keep('notes', { id: 'written', version: 1, text: '{}' })
  fill.keep('notes', { id: 'other', version: 1, text: '{}' })
  fill.end()
  expect(cache.find('notes', 'written')).toBeUndefined()
  expect(cache.find('notes', 'other')).toBeDefined()

  const later = cache.beginFill()
  later.keep('notes', { id: 'written', version: 2, text: '{}' })
  later.end()
  expect(cache.find('notes', 'written')?.version).toBe(2)
})

test('nothing that was read before all was forgotten is kept', () => {
  const { cache, keep } = cacheOf()
  keep('a')
  const fill = cache.beginFill()
  cache.forgetAll()
  fill.keep('notes', { id: 'b', version: 1, text: '{}' })
  expect([cache.find('notes', 'a'), cache.find('notes', 'b')]).toEqual([undefined, undefined])
})

test('nothing is found unless the log was read within the last second', () => {
  let currentAt = performance.now()
  const { cache, keep } = cacheOf({ currentAt: () => currentAt })
  keep('a')
  expect(cache.find('notes', 'a')).toBeDefined()
  currentAt = performance.now() - 1001
  expect(cache.find('notes', 'a')).toBeUndefined()
  currentAt = performance.now()
  expect(cache.find('notes', 'a')).toBeDefined()
  currentAt = Number.NEGATIVE_INFINITY
  expect(cache.find('notes', 'a')).toBeUndefined()
})

test('it is bounded in bytes and in documents, and what was asked for last stays', () => {
  const { cache, keep } = cacheOf({ maxBytes: 100_000 })
  for (let number = 0; number < 1000; number++) {
    keep(`n${number}`, 1, `"${'x'.repeat(1000)}"`)
    cache.find('notes', 'n0')
  }
  const { bytes, documents } = cache.standing
  expect(bytes).toBeLessThanOrEqual(100_000)
  expect(documents).toBeGreaterThan(50)
  expect(cache.find('notes', 'n0')).toBeDefined()
  expect(cache.find('notes', 'n1')).toBeUndefined()
  // As wide characters they take twice as much, and one that would drive out most others is not kept at all.
  keep('wide', 1, `"${'€'.repeat(8000)}"`)
  expect(cache.find('notes', 'wide')).toBeUndefined()

  const few = cacheOf({ maxDocuments: 2 })
  for (const id of ['a', 'b', 'c']) few.keep(id)
  expect(few.cache.standing.documents).toBe(2)
  expect(few.cache.find('notes', 'a')).toBeUndefined()
})

test('what is kept for too long is forgotten', async () => {
  const { cache, keep } = cacheOf({ ttlMs: 20 })
  keep('a')
  await until(() => cache.find('notes', 'a') === undefined)
  keep('a')
  expect(cache.find('notes', 'a')).toBeDefined()
})

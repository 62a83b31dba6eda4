import { expect, test } from 'vitest'
import { createReader } from '../../../src/server/services/reader.js'
import type { StoredDocument } from '../../../src/server/store/documents.js'
import { until } from '../../support/follower.js'

/** Statements that the test answers by hand; every document exists, in the version that is given. */
function manualRun() {
  const statements: {
    collection: string
    ids: readonly string[]
    finish(version?: number): void
    fail(error: Error): void
  }[] = []
  const run = (collection: string, ids: readonly string[]) =>
    new Promise<StoredDocument[]>((resolve, fail) => {
      const finish = (version = 1) =>
        resolve(
          ids.filter((id) => id !== 'missing').map((id) => ({ id, version, text: `"${collection}/${id}"` })),
        )
      statements.push({ collection, ids, finish, fail })
    })
  return { statements, run }
}

test('one read alone gets a statement at once; those that come meanwhile share the next', async () => {
  const { statements, run } = manualRun()
  const reader = createReader({ run, lanes: 1 })
  const first = reader.read('notes', 'a')
  await until(() => statements.length === 1)
  const ids = ['b', 'c', 'missing', 'b']
  const others = ids.map((id) => reader.read('notes', id))
  statements[0]!.finish()
  expect(await first).toEqual({ id: 'a', version: 1, text: '"notes/a"' })
  await until(() => statements.length === 2)
  // A document that is asked for twice is read once.
  expect(statements[1]!.ids).toEqual(['b', 'c', 'missing'])
  statements[1]!.finish()
  const texts = (await Promise.all(others)).map((document) => document?.text)
  expect(texts).toEqual(['"notes/b"', '"notes/c"', undefined, '"notes/b"'])
})

test('nobody joins a statement that was sent: it may know nothing of a write in between', async () => {
  const { statements, run } = manualRun()
  const reader = createReader({ run, lanes: 1 })
  const before = reader.read('notes', 'a')
  await until(() => statements.length === 1)
  const after = reader.read('notes', 'a')
  statements[0]!.finish(1)
  expect((await before)?.version).toBe(1)
  await until(() => statements.length === 2)
  statements[1]!.finish(2)
  expect((await after)?.version).toBe(2)
})

test('statements are bounded, collections do not wait for each other, and a failure is its own', async () => {
  const { statements, run } = manualRun()
  const reader = createReader({ run, lanes: 1, maxIds: 2 })
  const reads = ['a', 'b', 'c'].map((id) => reader.read('notes', id))
  const task = reader.read('tasks', 'a')
  await until(() => statements.length === 2)
  expect(statements.map(({ collection, ids }) => [collection, ids])).toEqual([
    ['notes', ['a', 'b']],
    ['tasks', ['a']],
  ])
  const settled = Promise.allSettled(reads)
  statements[0]!.fail(new Error('gone'))
  statements[1]!.finish()
  expect((await task)?.text).toBe('"tasks/a"')
  await until(() => statements.length === 3)
  statements[2]!.finish()
  expect((await settled).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'fulfilled'])
})

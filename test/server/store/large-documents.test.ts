import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { readChanges } from '../../../src/server/changes/read.js'
import { everything } from '../../../src/server/filter/ast.js'
import { scanDocuments } from '../../../src/server/store/scan.js'
import { testDatabase } from '../../support/database.js'

const { pool } = await testDatabase()
await pool.query(`SELECT dualstore.create_partition('notes')`)
const ids = ['a', 'b', 'c', 'd', 'e']
for (const id of ids) {
  const item = { id, noise: randomBytes(1_500_000).toString('base64') }
  await pool.query(
    `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at) VALUES ('notes', $1, $2, 1, 1)`,
    [id, item],
  )
}

test('large changes come a few at a time, all of them and in order', async () => {
  const seen: string[] = []
  const sizes: number[] = []
  for (let after = 0; ; ) {
    const { changes } = await readChanges(pool, after, 1000)
    if (changes.length === 0) break
    sizes.push(changes.length)
    seen.push(...changes.map(({ id }) => id))
    after = changes.at(-1)!.seq
  }
  expect(seen).toEqual(ids)
  expect(sizes).toEqual([3, 2])
})

test('a scan of large documents comes in short pages, and does not end with one', async () => {
  const selection = { collection: 'notes', schema: {}, filter: everything, text: undefined }
  const pages: string[][] = []
  for await (const page of scanDocuments(pool, selection)) {
    pages.push(page.map(({ id }) => id))
  }
  expect(pages).toEqual([
    ['a', 'b', 'c'],
    ['d', 'e'],
  ])
})

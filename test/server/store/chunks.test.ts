import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Item } from '../../../src/server/schemas/item.js'
import { createDigest, readChunk, skipChunk } from '../../../src/server/store/chunks.js'
import { jsonbText } from '../../../src/server/store/jsonb-text.js'
import { testDatabase } from '../../support/database.js'
import { insertMessages } from '../../support/follower.js'

const { pool } = await testDatabase()

test('a value has the text that PostgreSQL gives its jsonb', async () => {
  // What no store can hold is refused long before.
  const text = fc.string({ unit: 'binary' }).filter((value) => !value.includes('\0') && value.isWellFormed())
  const number = fc.double({ noNaN: true, noDefaultInfinity: true })
  const json = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 3 },
      fc.constantFrom(null, true, false, 0, -0, 1e21, -1.5e-7, 5e-324, 1.7976931348623157e308),
      number,
      fc.integer(),
      text,
      fc.array(tie('value'), { maxLength: 4 }),
      fc.dictionary(text, tie('value'), { maxKeys: 5 }),
    ),
  })).value as fc.Arbitrary<never>
  const values = fc.sample(json, 500)
  const { rows } = await pool.query<{ text: string }>(
    'SELECT v::text AS text FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS a(v, at) ORDER BY at',
    [JSON.stringify(values)],
  )
  expect(values.map(jsonbText)).toEqual(rows.map(({ text }) => text))
})

test('a chunk has the hash that its documents give, and changes with each of them', async () => {
  await pool.query(`SELECT dualstore.create_partition('session_messages')`)
  const ids = ['a', 'b', 'é', '\uff5e', '😀']
  await insertMessages(pool, ids)
  const items = (await pool.query<{ item: Item }>('SELECT item FROM dualstore.documents ORDER BY id')).rows
  const digest = createDigest()
  for (const { item } of items.slice(1, 4)) digest.add(item.id, 1, item)
  const chunk = await readChunk(pool, 'session_messages', 'a', 3)
  expect(chunk).toEqual({ documents: 3, last: '\uff5e', digest: digest.end(), position: 5, isLast: false })
  expect(await skipChunk(pool, 'session_messages', 'a', 3)).toEqual({ documents: 3, last: '\uff5e' })

  await pool.query(`UPDATE dualstore.documents SET item = item WHERE id = 'b'`)
  expect((await readChunk(pool, 'session_messages', 'a', 3)).digest).not.toBe(chunk.digest)
  const end = await readChunk(pool, 'session_messages', '😀', 3)
  expect(end).toEqual({
    documents: 0,
    last: undefined,
    digest: createDigest().end(),
    position: 6,
    isLast: true,
  })
  expect(await readChunk(pool, 'session_messages', 'a', 5)).toMatchObject({ documents: 4, isLast: true })
})

test('a chunk of large documents holds fewer', async () => {
  await insertMessages(pool, ['z1', 'z2', 'z3'])
  // Text that does not compress.
  await pool.query(
    `UPDATE dualstore.documents SET item = item || jsonb_build_object('content', t.text)
     FROM (SELECT string_agg(md5(random()::text), '') AS text FROM generate_series(1, 100000)) t
     WHERE id IN ('z1', 'z2', 'z3')`,
  )
  expect(await readChunk(pool, 'session_messages', 'b', 1000)).toMatchObject({
    documents: 2,
    last: 'z2',
    isLast: false,
  })
})

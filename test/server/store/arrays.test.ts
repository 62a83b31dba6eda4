import { expect, test } from 'vitest'
import { bigints, texts } from '../../../src/server/store/arrays.js'
import { createDatabase } from '../../support/database.js'

test('PostgreSQL reads every array as it was given', async () => {
  const { pool, close } = await createDatabase({ migrated: false })
  try {
    const odd = [
      '',
      'NULL',
      'null',
      '"',
      '\\',
      '\\"',
      '","',
      '{}',
      '{"$oid":"5f"}',
      ' a ',
      'a\nb',
      "'",
      'é𝄞',
      '\\\\',
    ]
    const numbers = [0, -1, 1_767_225_600_000, -62_167_219_200_000]
    for (const [words, values] of [
      [odd, numbers],
      [[], []],
    ] as const) {
      const { rows } = await pool.query('SELECT $1::text[] AS words, $2::bigint[]::text[] AS values', [
        texts(words),
        bigints(values),
      ])
      expect(rows).toEqual([{ words, values: values.map(String) }])
    }
  } finally {
    await close()
  }
})

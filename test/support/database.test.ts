import { expect, inject, test } from 'vitest'
import { createDatabase, testDatabase } from './database.js'
import { asAdmin } from './global-setup.js'

const names = async (name: string) =>
  asAdmin(inject('postgres').adminUrl, async (admin) => {
    const { rowCount } = await admin.query('SELECT FROM pg_database WHERE datname = $1', [name])
    return rowCount
  })

test('every database is migrated, empty and apart from the others', async () => {
  const [one, two] = await Promise.all([testDatabase(), testDatabase()])
  await one.pool.query(`SELECT dualstore.create_partition('agent_tasks')`)
  await one.pool.query(
    `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at) VALUES ('agent_tasks', 'a', '{"id":"a"}', 1, 1)`,
  )
  const count = 'SELECT count(*)::int AS n FROM dualstore.documents'
  expect((await one.pool.query(count)).rows).toEqual([{ n: 1 }])
  expect((await two.pool.query(count)).rows).toEqual([{ n: 0 }])
})

test('a connection that is never given back fails the close and is named by what it ran', async () => {
  const database = await createDatabase()
  const leaked = await database.pool.connect()
  leaked.on('error', () => {})
  await leaked.query('SELECT 42 AS forgotten')
  await expect(database.close()).rejects.toThrow(
    /1 connection\(s\) leaked:\n.*"test database".*SELECT 42 AS forgotten/,
  )
  leaked.release(true)
})

test('closing drops the database, and keeps it when asked to', async () => {
  const database = await createDatabase()
  const name = new URL(database.url).pathname.slice(1)
  await database.close()
  expect(await names(name)).toBe(0)
  const kept = await createDatabase()
  const keptName = new URL(kept.url).pathname.slice(1)
  await kept.close({ keep: true })
  expect(await names(keptName)).toBe(1)
  await asAdmin(inject('postgres').adminUrl, (admin) => admin.query(`DROP DATABASE ${keptName}`))
})

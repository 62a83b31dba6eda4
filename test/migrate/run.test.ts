import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { planMigration } from '../../src/migrate/plan.js'
import type { SourceDocument } from '../../src/migrate/sources/contract.js'
import { readHead } from '../../src/server/changes/read.js'
import type { Queryable } from '../../src/server/db/pool.js'
import { transaction } from '../../src/server/db/transaction.js'
import { transitions } from '../../src/server/services/migrations/states.js'
import type { MigrationService } from '../../src/server/services/migrations.js'
import { until } from '../support/follower.js'
import { legacyDatabase } from '../support/legacy-database.js'
import { legacyDocuments, memorySource, sourceDocument } from '../support/memory-source.js'
import { checkSeed, items, migrateFrom, tableHash, withMigrations } from '../support/migration.js'

const HOUR = 3_600_000
const START = Date.parse('2026-01-01T00:00:00Z')
const at = (hours: number) => new Date(START + hours * HOUR).toISOString()

/** A message as the legacy server wrote it. */
function message(id: string, hours: number, content: string): SourceDocument {
  const metadata = { session_id: 'ses_a', role: 'user', updated_at: at(hours) }
  return sourceDocument({ _id: randomUUID(), id, text: content, timestamp: at(0), metadata })
}

const messages = (...documents: SourceDocument[]) => memorySource({ session_messages: documents })

/** What gave way, the newest first. */
const historyOf = async (migrations: MigrationService, id: string) =>
  (await migrations.history('session_messages', id)).map(({ item }) => JSON.parse(item).content)

/** The same as dualstore holds it. */
async function store(on: Queryable, id: string, hours: number, content: string): Promise<void> {
  const item = { id, created_at: at(0), updated_at: at(hours), session_id: 'ses_a', role: 'user', content }
  await on.query(
    `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
     VALUES ('session_messages', $1, $2, $3, $4)`,
    [id, item, START, START + hours * HOUR],
  )
}

test.each([1, 2])('seed %i: every sum holds, the newest of each id wins, and again changes nothing', (seed) =>
  checkSeed(seed, 300),
)

test('what was broken off goes on, and ends as if nothing had happened', async () => {
  const collections = legacyDocuments(legacyDatabase({ seed: 4, documents: 300 }))
  let undisturbed = ''
  await withMigrations(async (migrations, pool) => {
    await migrateFrom(memorySource(collections), migrations)
    undisturbed = await tableHash(pool)
  })
  await withMigrations(async (migrations, pool) => {
    for (const breakAt of [2, 5, 4]) {
      const source = memorySource(collections)
      let batches = 0
      source.beforeBatch = () => {
        if (++batches === breakAt) throw new Error('broken off')
      }
      await expect(migrateFrom(source, migrations)).rejects.toThrow('broken off')
    }
    const interrupted = new AbortController()
    const source = memorySource(collections)
    source.beforeBatch = (_collection, from) => {
      if (from >= 250) interrupted.abort()
    }
    expect((await migrateFrom(source, migrations, { signal: interrupted.signal })).interrupted).toBe(true)
    const { migration, taken } = await migrateFrom(memorySource(collections), migrations)
    expect(taken).toBeLessThan(migration.collections.reduce((sum, { read }) => sum + read, 0))
    expect(await tableHash(pool)).toBe(undisturbed)
  })
})

test('a stored document gives way to a newer one only', async () => {
  await withMigrations(async (migrations, pool) => {
    await store(pool, 'older', 1, 'stored')
    await store(pool, 'newer', 3, 'stored')
    await store(pool, 'same', 2, 'legacy')
    const source = messages(
      message('older', 2, 'legacy'),
      message('newer', 2, 'legacy'),
      message('same', 2, 'legacy'),
      message('free', 2, 'legacy'),
      // One of an id that was replaced in this migration already is history like any other.
      message('older', 4, 'legacy, later'),
    )
    const { migration } = await migrateFrom(source, migrations)
    expect(migration.collections[0]).toMatchObject({
      read: 5,
      created: 1,
      replaced: 1,
      unchanged: 1,
      merged: 2,
    })
    const contents = [...(await items(pool, 'session_messages')).values()].map(({ id, content }) => [
      id,
      content,
    ])
    expect(Object.fromEntries(contents)).toEqual({
      older: 'legacy, later',
      newer: 'stored',
      same: 'legacy',
      free: 'legacy',
    })
    expect(await historyOf(migrations, 'older')).toEqual(['legacy', 'stored'])
    expect(await historyOf(migrations, 'newer')).toEqual(['legacy'])
    const { rows } = await pool.query(
      'SELECT DISTINCT author FROM dualstore.changes WHERE author IS NOT NULL',
    )
    expect(rows).toEqual([{ author: `migration:${migration.id}` }])
  })
})

test('of equally new ones the later wins, and stays the winner', async () => {
  await withMigrations(async (migrations, pool) => {
    const source = messages(message('a', 1, 'first'), message('a', 1, 'second'), message('a', 1, 'third'))
    for (const counts of [
      { created: 1, merged: 2 },
      { unchanged: 1, merged: 2 },
      { unchanged: 1, merged: 2 },
    ]) {
      const { migration } = await migrateFrom(source, migrations)
      expect(migration.collections[0]).toMatchObject({ read: 3, replaced: 0, ...counts })
      expect((await items(pool, 'session_messages')).get('a')).toMatchObject({ content: 'third' })
    }
  })
})

test('what a client has deleted stays deleted, unless the source has a newer one', async () => {
  await withMigrations(async (migrations, pool) => {
    const first = [message('kept', 1, 'one'), message('gone', 1, 'one'), message('back', 1, 'one')]
    const { migration } = await migrateFrom(messages(...first), migrations)
    await transaction(pool, async (tx) => {
      await tx.query(`SELECT set_config('dualstore.origin', '{"author": "key:k1"}', true)`)
      await tx.query(`DELETE FROM dualstore.documents WHERE id IN ('gone', 'back')`)
    })
    // Of another id everything is as before, also when several documents share one.
    const later = message('gone', 2, 'two')
    const newer = message('back', (Date.now() - START) / HOUR + 1, 'newer')
    const again = messages(...first, later, newer, message('free', 1, 'one'), message('free', 2, 'two'))
    for (const counts of [
      { created: 2, unchanged: 1, merged: 4 },
      { created: 0, unchanged: 3, merged: 4 },
    ]) {
      const { migration } = await migrateFrom(again, migrations)
      expect(migration.collections[0]).toMatchObject({ read: 7, replaced: 0, quarantined: 0, ...counts })
      const stored = await items(pool, 'session_messages')
      expect([...stored].map(([id, { content }]) => [id, content]).toSorted()).toEqual([
        ['back', 'newer'],
        ['free', 'two'],
        ['kept', 'one'],
      ])
    }
    expect(await historyOf(migrations, 'gone')).toEqual(['two', 'one'])
    // It is the same migration all along; to psql, whose author nobody knows, it gives nothing up.
    expect((await migrations.current())?.id).toBe(migration.id)
    await pool.query(`DELETE FROM dualstore.documents WHERE id = 'kept'`)
    const { migration: last } = await migrateFrom(again, migrations)
    expect(last.collections[0]).toMatchObject({ created: 1, unchanged: 2, merged: 4 })
  })
})

test('a document that somebody creates meanwhile is met like any stored one', async () => {
  await withMigrations(async (migrations, pool) => {
    const lock = await pool.connect()
    await lock.query('BEGIN')
    await store(lock, 'a', 1, 'stored')
    const migrating = migrateFrom(messages(message('a', 2, 'legacy'), message('b', 1, 'legacy')), migrations)
    await until(async () => {
      const { rows } = await pool.query(
        `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query ~ 'take_in'`,
      )
      return rows.length > 0
    })
    await lock.query('COMMIT')
    lock.release()
    const { migration } = await migrating
    expect(migration.collections[0]).toMatchObject({ read: 2, created: 1, replaced: 1 })
    expect((await items(pool, 'session_messages')).get('a')).toMatchObject({ content: 'legacy' })
    expect(await historyOf(migrations, 'a')).toEqual(['stored'])
  })
})

test('a document that PostgreSQL refuses is quarantined alone, as it stands in the source', async () => {
  await withMigrations(async (migrations, pool) => {
    const long = message('long', 1, 'too long')
    // Too long for the index on session_id, and not to be compressed.
    const session_id = Array.from({ length: 200 }, () => randomUUID()).join('')
    long.document.metadata = { session_id, role: 'user', updated_at: at(1) }
    const { migration } = await migrateFrom(
      messages(message('a', 1, 'fits'), long, message('b', 1, 'fits'), message('c', 1, 'fits')),
      migrations,
    )
    expect(migration.collections[0]).toMatchObject({ read: 4, created: 3, quarantined: 1 })
    expect([...(await items(pool, 'session_messages')).keys()]).toEqual(['a', 'b', 'c'])
    const quarantined = await text(Readable.from(migrations.quarantine(migration.id)))
    expect(JSON.parse(quarantined)).toEqual({
      collection: 'session_messages',
      source_id: long.sourceId,
      id: 'long',
      reason: expect.stringContaining('too long for a field with an index'),
      document: long.document,
    })
  })
})

test('a run that is alive is not disturbed, and one that was taken over takes nothing in any more', async () => {
  await withMigrations(async (migrations, pool) => {
    const source = messages(message('a', 1, 'one'))
    const { migration } = await migrateFrom(source, migrations)
    const first = { id: migration.id, runner: 'first' }
    await migrations.claim(first)
    const beating = setInterval(() => void migrations.beat(first), 100)
    await expect(migrateFrom(source, migrations)).rejects.toMatchObject({ code: 'CONFLICT' })
    clearInterval(beating)
    // Now it is as good as killed.
    await migrations.claim({ id: migration.id, runner: 'second' })
    const intake = migrations.prepare({ collection: 'session_messages', documents: [], checkpoint: '99' })
    await expect(migrations.takeIn(first, intake)).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(await migrations.beat(first)).toBeUndefined()
    const other = memorySource({ session_messages: [] }, { name: 'another' })
    await expect(migrateFrom(other, migrations)).rejects.toThrow(
      /memory is backfilled: finish it or roll it back/,
    )
    expect((await pool.query('SELECT 1 FROM dualstore.documents')).rowCount).toBe(1)
  })
})

test('a plan tells what a run then does, and writes nothing', async () => {
  const legacy = legacyDatabase({ seed: 5, documents: 300 })
  await withMigrations(async (migrations, pool) => {
    const source = memorySource(legacyDocuments(legacy))
    const before = await readHead(pool)
    const signal = new AbortController().signal
    const plan = await planMigration({ source, migrations, signal })
    expect(await readHead(pool)).toEqual(before)
    expect(await migrations.current()).toBeUndefined()
    expect(plan.complete).toBe(true)
    const { migration } = await migrateFrom(source, migrations)
    for (const { collection, read, created, merged, quarantined, oddities } of migration.collections) {
      expect(plan.collections[collection]).toMatchObject({ read, created, merged, quarantined })
      for (const kind of Object.keys(oddities))
        expect(plan.oddities[kind]?.examples.length).toBeGreaterThan(0)
    }
    const reasons = plan.quarantine.reduce((sum, { documents }) => sum + documents, 0)
    expect(reasons).toBe(plan.quarantined)
    const sample = await planMigration({ source, migrations, signal, sample: 120 })
    expect(sample).toMatchObject({ read: 360, documents: 900, complete: false })
  })
})

test('following takes what is written from the beginning on, and goes on after an interruption', async () => {
  await withMigrations(async (migrations, pool) => {
    const source = messages(message('a', 1, 'one'), message('b', 1, 'one'))
    // Written while everything is read: behind the mark, so that it is met twice and counted twice.
    source.beforeBatch = (_collection, from) => {
      if (from === 2) source.append('session_messages', [message('a', 2, 'two')])
    }
    const has = (id: string, content: string) => async () =>
      (await items(pool, 'session_messages')).get(id)?.content === content
    const stop = new AbortController()
    const following = migrateFrom(source, migrations, { follow: true, signal: stop.signal })
    await until(has('a', 'two'))
    source.append('session_messages', [message('c', 1, 'three')])
    await until(has('c', 'three'))
    await until(async () => (await migrations.current())?.lag?.behind === 0)
    stop.abort()
    expect(await following).toMatchObject({ interrupted: true, migration: { state: 'following' } })

    source.append('session_messages', [message('d', 1, 'four')])
    const cutOver = migrateFrom(source, migrations, { follow: true })
    await until(has('d', 'four'))
    const { id } = (await migrations.current()) ?? { id: '' }
    for (const state of ['verified', 'cut_over'] as const) await migrations.moveTo(id, state, 'local')
    source.append('session_messages', [message('e', 1, 'a straggler')])
    await until(has('e', 'a straggler'))
    await migrations.moveTo(id, 'finished', 'local')
    // Nothing more is to be taken then: it ends by itself.
    const { migration, interrupted } = await cutOver
    expect({ interrupted, state: migration.state }).toEqual({ interrupted: false, state: 'finished' })
    const [counts] = migration.collections
    expect(counts).toMatchObject({ created: 5, merged: 1, replaced: 0, quarantined: 0 })
    expect(counts?.read).toBe(6 + (counts?.unchanged ?? 0))
    expect((await migrations.get(id)).events.map(({ to_state }) => to_state)).toEqual([
      'planned',
      'backfilled',
      'following',
      'verified',
      'cut_over',
      'finished',
    ])
  })
})

test('a migration moves only as the table says', async () => {
  await withMigrations(async (migrations, pool) => {
    const { migration } = await migrateFrom(messages(message('a', 1, 'one')), migrations)
    const states = Object.keys(transitions) as (keyof typeof transitions)[]
    for (const from of states) {
      for (const to of states) {
        await pool.query('UPDATE dualstore.source_migrations SET state = $1', [from])
        const moved = await migrations.moveTo(migration.id, to, 'local').then(
          ({ state }) => state,
          (error) => error.code,
        )
        expect(moved, `${from} to ${to}`).toBe(
          from === to || transitions[from].includes(to) ? to : 'CONFLICT',
        )
      }
    }
  })
})

import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import type { Source, SourceDocument } from '../../src/migrate/sources/contract.js'
import type { VerifyCounts } from '../../src/migrate/verify/counts.js'
import { concludeVerification, verifiable, verifySource } from '../../src/migrate/verify.js'
import type { MigrationService, SourceFinding } from '../../src/server/services/migrations.js'
import { localAccess } from '../../src/server/services/principal.js'
import { until } from '../support/follower.js'
import { legacyDatabase } from '../support/legacy-database.js'
import { legacyDocuments, memorySource, sourceDocument } from '../support/memory-source.js'
import { items, migrateFrom, withMigrations } from '../support/migration.js'

const HOUR = 3_600_000
const START = Date.parse('2026-01-01T00:00:00Z')
const at = (hours: number) => new Date(START + hours * HOUR).toISOString()
const COLLECTION = 'session_messages'

function message(id: string, hours: number, content: string, more: object = {}): SourceDocument {
  const metadata = { session_id: 'ses_a', role: 'user', updated_at: at(hours), ...more }
  return sourceDocument({ _id: randomUUID(), id, text: content, timestamp: at(0), metadata })
}

const messages = (...documents: SourceDocument[]) => memorySource({ [COLLECTION]: documents })

async function verified(migrations: MigrationService, source: Source, patienceMs = 5000) {
  const findings: SourceFinding[] = []
  const migration = await verifiable(migrations, source)
  const compared = await verifySource({
    source,
    migrations,
    migration,
    patienceMs,
    signal: new AbortController().signal,
    onFinding: async (finding) => void findings.push(finding),
  })
  const skipped = { skipped: 'not in this test' }
  const result = await concludeVerification(migrations, localAccess, migration.id, compared, skipped)
  const { state, verification } = await migrations.get(migration.id)
  expect(verification).toEqual(result)
  return { findings, result, state, counts: result.source[COLLECTION] as VerifyCounts }
}

test('a generated database that was taken over is found whole, and the migration is verified', async () => {
  const legacy = legacyDatabase({ seed: 21, documents: 300 })
  await withMigrations(async (migrations) => {
    const source = memorySource(legacyDocuments(legacy))
    await migrateFrom(source, migrations)
    const { findings, result, state } = await verified(migrations, source)
    expect(findings).toEqual([])
    expect(result).toMatchObject({ clean: true, not_checked: ['the mirror: not in this test'] })
    expect(state).toBe('verified')
    for (const collection of legacy.collections) {
      const { read, created, merged, quarantined } = legacy.expected(collection)
      const none = { missing: 0, different: 0, unsettled: 0, extra: 0, own: 0 }
      const { equal = 0, superseded = 0, ...counts } = result.source[collection] ?? {}
      expect(counts).toEqual({ checked: read, quarantined, ...none })
      // Of those that gave way some are the same as the winner.
      expect(equal).toBeGreaterThanOrEqual(created)
      expect(equal + superseded).toBe(created + merged)
    }
    // Another pass makes it worthless.
    expect((await migrateFrom(source, migrations)).migration.state).toBe('backfilled')
  })
})

test('every difference is told by name, on both sides', async () => {
  await withMigrations(async (migrations, pool) => {
    const broken = message('broken', 1, 'never taken', { role: 'nobody' })
    const older = message('twice', 1, 'first')
    const source = messages(
      message('equal', 1, 'the same', { tokens: 1 }),
      message('gone', 1, 'gone'),
      message('changed', 1, 'right', { price: 1e20 }),
      older,
      message('twice', 2, 'second'),
      broken,
      message('kept', 1, 'first'),
      message('kept', 2, 'second'),
    )
    await migrateFrom(source, migrations)
    expect(await verified(migrations, source)).toMatchObject({ findings: [], state: 'verified' })

    await pool.query("DELETE FROM dualstore.documents WHERE id = 'gone'")
    await pool.query(
      `UPDATE dualstore.documents SET item = item || '{"content": "wrong", "metadata": {}}' WHERE id = 'changed'`,
    )
    // The same number in other digits.
    await pool.query(
      `UPDATE dualstore.documents SET item = item || '{"metadata": {"tokens": 1.00}}' WHERE id = 'equal'`,
    )
    await pool.query(
      `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
       SELECT collection, 'planted', item || '{"id": "planted"}', created_at, updated_at
       FROM dualstore.documents WHERE id = 'equal'`,
    )
    await pool.query('DELETE FROM dualstore.migration_quarantine')
    await pool.query("DELETE FROM dualstore.migration_history WHERE id = 'twice'")
    const added = message('added', 1, 'behind the last pass')
    source.append(COLLECTION, [added])

    const { findings, result, state, counts } = await verified(migrations, source)
    const told = Object.fromEntries(findings.map(({ kind, id, reason }) => [id, [kind, reason]]))
    expect(told).toEqual({
      gone: ['missing', 'is not stored'],
      changed: ['different', 'fields differ'],
      twice: ['missing', expect.stringContaining('does not stand in the history')],
      broken: ['missing', expect.stringContaining('quarantine')],
      added: ['missing', 'is not stored'],
      planted: ['extra', expect.stringContaining('the source does not hold it')],
    })
    expect(findings.find(({ id }) => id === 'changed')?.differences).toEqual([
      { path: 'content', source: '"right"', stored: '"wrong"' },
      { path: 'metadata.price', source: '100000000000000000000' },
    ])
    expect(findings.find(({ id }) => id === 'twice')?.source_id).toBe(older.sourceId)
    expect(counts).toEqual({
      ...{ checked: 9, equal: 3, superseded: 1, quarantined: 0, missing: 4, different: 1 },
      ...{ unsettled: 0, extra: 1, own: 0 },
    })
    // What was clean before is no longer.
    expect({ clean: result.clean, state }).toEqual({ clean: false, state: 'backfilled' })
  })
})

test('what clients of dualstore have done since is no difference', async () => {
  await withMigrations(async (migrations, pool) => {
    const source = messages(message('changed', 1, 'legacy'), message('deleted', 1, 'legacy'))
    await migrateFrom(source, migrations)
    const client = await pool.connect()
    try {
      await client.query('BEGIN')
      await client.query(`SELECT set_config('dualstore.origin', '{"author": "key:k1"}', true)`)
      await client.query(
        `UPDATE dualstore.documents SET item = item || '{"content": "later"}', updated_at = updated_at + 1
         WHERE id = 'changed'`,
      )
      await client.query(
        `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
         SELECT collection, 'new', item || '{"id": "new"}', created_at, updated_at
         FROM dualstore.documents WHERE id = 'changed'`,
      )
      await client.query("DELETE FROM dualstore.documents WHERE id = 'deleted'")
      await client.query('COMMIT')
    } finally {
      client.release()
    }
    const { findings, counts } = await verified(migrations, source)
    expect(findings).toEqual([])
    expect(counts).toMatchObject({ checked: 2, superseded: 2, own: 1, extra: 0 })
  })
})

test('while somebody follows, what is on its way is waited for, and what stays on it is unsettled', async () => {
  await withMigrations(async (migrations, pool) => {
    const source = messages(message('a', 1, 'one'))
    const stop = new AbortController()
    const following = migrateFrom(source, migrations, { follow: true, signal: stop.signal })
    await until(async () => (await migrations.current())?.lag?.behind === 0)

    // The legacy server writes all the time, also behind what was read, and the follower has it first.
    let written = 0
    const write = () =>
      source.append(COLLECTION, [message(`late-${written++}`, 2, 'two'), message('a', 2, 'newer')])
    const writing: Source = {
      ...source,
      async *read(collection, checkpoint, signal) {
        yield* source.read(collection, checkpoint, signal)
        write()
        await until(async () => (await items(pool, COLLECTION)).has('late-0'))
      },
    }
    const timer = setInterval(write, 10)
    try {
      const { findings, state } = await verified(migrations, writing)
      expect({ findings, state }).toEqual({ findings: [], state: 'verified' })
      expect(written).toBeGreaterThan(2)
    } finally {
      clearInterval(timer)
    }

    // Read from the source before the follower is told of it.
    const early: Source = {
      ...source,
      async *read(collection, checkpoint, signal) {
        yield* source.read(collection, checkpoint, signal)
        yield { documents: [message('early', 1, 'three')], checkpoint: '' }
      },
    }
    const differs = await verified(migrations, early)
    expect(differs.findings).toMatchObject([{ kind: 'missing', id: 'early' }])
    expect(differs.state).toBe('following')
    stop.abort()
    await following

    const { id } = (await migrations.current()) ?? { id: '' }
    const stuck = { id, runner: 'stuck' }
    await migrations.claim(stuck)
    const beat = () =>
      migrations.beat(stuck, { lag: { behind: 3, seconds: 9, at: new Date().toISOString() }, answered: 0 })
    await beat()
    const beating = setInterval(() => void beat(), 100)
    try {
      const { findings, result } = await verified(migrations, early, 1000)
      expect(findings).toMatchObject([{ kind: 'unsettled', id: 'early' }])
      expect(findings[0]?.reason).toContain('has not caught up')
      expect(result.clean).toBe(false)
    } finally {
      clearInterval(beating)
    }
  })
})

test('only what was read to its end is verified, and only against its own source', async () => {
  await withMigrations(async (migrations) => {
    const source = messages(message('a', 1, 'one'))
    await expect(verifiable(migrations, source)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await migrations.begin(localAccess, source, { collections: [COLLECTION], follow: false, adopt: false })
    await expect(verifiable(migrations, source)).rejects.toThrow(/run it to its end/)
    await migrateFrom(source, migrations)
    const other = memorySource({ [COLLECTION]: [] }, { name: 'another' })
    await expect(verifiable(migrations, other)).rejects.toThrow(/from memory, and not from another/)
  })
})

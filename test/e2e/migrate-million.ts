import { readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, expect, test } from 'vitest'
import { openMongoSource } from '../../src/migrate/sources/mongo.js'
import { understand } from '../../src/migrate/understand.js'
import { startEmbedded } from '../../src/server/db/embedded.js'
import { openPool, type Pool } from '../../src/server/db/pool.js'
import { shippedCollections } from '../../src/server/schemas/shipped-collections.js'
import { launch, type Running } from '../cli/program.js'
import { dataDirectory } from '../support/directory.js'
import { legacyDatabase, writeLegacyDatabase } from '../support/legacy-database.js'
import { tableHash } from '../support/migration.js'
import { serverIsAvailable, startMongo } from '../support/mongo.js'

// npm run test:migrate:million. DOCUMENTS (of all collections) makes it smaller, KILLS more or less restless.
const documents = Number(process.env.DOCUMENTS ?? 1_000_000)
const kills = Number(process.env.KILLS ?? 3)
const legacy = legacyDatabase({ seed: 8, documents: Math.round(documents / 3) })
const total = Math.round(documents / 3) * 3
const table: Record<string, Record<string, number>> = {}

test('a million documents: rate, memory, and the same after kill -9', async ({ skip }) => {
  if (!(await serverIsAvailable())) return skip('no MongoDB')
  const mongo = await startMongo()
  try {
    const database = 'database'
    await writeLegacyDatabase(legacy, { uri: mongo.uri, database })
    await alone(mongo.uri)
    const command = (dataDir: string) => [
      'migrate-from-dualstore-http',
      ...['--mongo-uri', mongo.uri, '--database', database, '--data-dir', dataDir, '--json'],
    ]
    const undisturbed = await dataDirectory()
    const report = await measured('all together', launch(command(undisturbed), { cwd: dirname(undisturbed) }))
    expect(report.read).toBe(total)
    // Flat: nothing grows with what was read. What is left behind the last kill is too little to tell.
    if (total > 300_000) expect(report.end).toBeLessThan((report.middle as number) * 1.3)
    const hash = await withEmbedded(undisturbed, tableHash)

    const disturbed = await dataDirectory()
    for (let kill = 1; kill <= kills; kill++) {
      const running = launch(command(disturbed), { cwd: dirname(disturbed) })
      await withEmbedded(disturbed, (pool) => untilRead(pool, (total * kill) / (kills + 1)))
      running.signal('SIGKILL')
      await running.ended
    }
    const last = await measured(
      'after the last kill',
      launch(command(disturbed), { cwd: dirname(disturbed) }),
    )
    const { read, created, merged, quarantined } = report
    expect(last).toMatchObject({ read, created, merged, quarantined, replaced: 0, unchanged: 0 })
    expect(await withEmbedded(disturbed, tableHash)).toBe(hash)
  } finally {
    await mongo.stop()
  }
})

afterAll(() => console.table(table))

/** How fast the source is without anybody, and together with understanding. */
async function alone(uri: string): Promise<void> {
  for (const kind of ['source alone', 'source and understanding']) {
    const source = openMongoSource({ uri, database: 'database', agentName: 'duck' })
    const began = performance.now()
    const cpu = process.cpuUsage()
    for (const definition of shippedCollections) {
      for await (const batch of source.read(definition.name, null, new AbortController().signal)) {
        if (kind !== 'source alone') for (const one of batch.documents) understand(definition, one)
      }
    }
    const { user, system } = process.cpuUsage(cpu)
    table[kind] = rates(performance.now() - began, { 'node µs each': (user + system) / total })
    await source.close()
  }
}

/** Runs to the end, and looks at the memory of the process every second. */
async function measured(name: string, running: Running): Promise<Record<string, number>> {
  const began = performance.now()
  const memory: number[] = []
  let over = false
  const watching = (async () => {
    while (!over) {
      memory.push(residentMb(running.pid))
      await delay(1000)
    }
  })()
  const { code, output } = await running.ended
  over = true
  await watching
  expect(code, output).toBe(0)
  const report = JSON.parse(output.slice(output.indexOf('{\n'), output.lastIndexOf('\n}') + 2))
  // The first third is the start: what is loaded, and the heap that grows to its working size.
  const third = Math.ceil(memory.length / 3)
  const [middle, end] = [memory.slice(third, 2 * third), memory.slice(2 * third, -1)].map((part) =>
    Math.max(...part),
  )
  table[name] = {
    ...rates(performance.now() - began),
    'documents/s': report.rate,
    'MB at most, in the middle': middle as number,
    'MB at most, at the end': end as number,
  }
  expect(Math.max(...memory)).toBeLessThan(500)
  return { ...report, middle, end }
}

function rates(ms: number, more: Record<string, number> = {}): Record<string, number> {
  const rounded = Object.entries(more).map(([name, value]) => [name, Math.round(value * 10) / 10])
  return {
    seconds: Math.round(ms / 100) / 10,
    'documents/s': Math.round((total / ms) * 1000),
    ...Object.fromEntries(rounded),
  }
}

/** Of a process; 0 when it has ended. */
function residentMb(pid: number): number {
  try {
    const [, kb = '0'] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
    return Math.round(Number(kb) / 1024)
  } catch {
    return 0
  }
}

/** The database of a data directory, as another guest, or started for this. */
async function withEmbedded<T>(dataDir: string, work: (pool: Pool) => Promise<T>): Promise<T> {
  const server = await startEmbedded(dataDir)
  const pool = openPool({
    url: server.url,
    size: 2,
    connectTimeoutMs: 5000,
    statementTimeoutMs: 600_000,
    applicationName: 'test migrate-million',
    onIdleError: () => {},
  })
  try {
    return await work(pool)
  } finally {
    await pool.end()
    await server.close()
  }
}

async function untilRead(pool: Pool, wanted: number): Promise<void> {
  for (;;) {
    const { rows } = await pool
      .query('SELECT sum(read)::bigint AS read FROM dualstore.migration_collections')
      // The run brings the database to its version in this moment.
      .catch(() => ({ rows: [] as { read: number | null }[] }))
    if ((rows[0]?.read ?? 0) >= wanted) return
    await delay(20)
  }
}

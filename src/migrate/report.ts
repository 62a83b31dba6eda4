import type { Counts, Migration, MigrationState } from '../server/services/migrations.js'

/** What became of the documents that were read: read is always the sum of the five behind it. */
export type CountsReport = Counts

/** The report of a run, or of a plan, which has no migration. */
export interface MigrationReport extends CountsReport {
  collections: Record<string, CountsReport>
  source: { kind: 'mongo' | 'http'; name: string }
  /** Null in a plan, as are the two below. */
  migration: string | null
  state: MigrationState | null
  quarantine_file: string | null
  /** Of this run alone, which may have gone on with what another one began. */
  seconds: number
  /** Documents a second of this run. */
  rate: number
  /** Number of documents by kind of oddity. */
  oddities: Record<string, number>
}

const KEYS = ['read', 'created', 'replaced', 'unchanged', 'merged', 'quarantined'] as const

export function noCounts(): Counts {
  return { read: 0, created: 0, replaced: 0, unchanged: 0, merged: 0, quarantined: 0 }
}

export function sumOf(all: Iterable<Counts>): Counts {
  const sum = noCounts()
  for (const counts of all) for (const key of KEYS) sum[key] += counts[key]
  return sum
}

export function countsOf(from: Counts): Counts {
  return sumOf([from])
}

/** What is said of a run, from what is stored of its migration. */
export function reportOf(
  { id, state, source_kind, source_name, collections }: Migration,
  run: { seconds: number; taken: number; quarantineFile: string | null },
): MigrationReport {
  const oddities: Record<string, number> = {}
  for (const collection of collections) {
    for (const [kind, count] of Object.entries(collection.oddities))
      oddities[kind] = (oddities[kind] ?? 0) + count
  }
  return {
    ...sumOf(collections),
    collections: Object.fromEntries(collections.map((one) => [one.collection, countsOf(one)])),
    source: { kind: source_kind, name: source_name },
    migration: id,
    state,
    quarantine_file: run.quarantineFile,
    seconds: Math.round(run.seconds * 1000) / 1000,
    rate: Math.round(run.taken / Math.max(run.seconds, 0.001)),
    oddities,
  }
}

/** A migration as `status` tells it. */
export interface MigrationStatus extends CountsReport {
  id: string
  source: { kind: 'mongo' | 'http'; name: string }
  state: MigrationState
  /** How often everything was read, the present time included. */
  pass: number
  /** Of the log, when it began. */
  started_position: string
  started_at: string
  started_by: string
  /** Who takes documents in at this time; null when nobody does. */
  runner: string | null
  /** ISO 8601; when a runner was last heard of. */
  heartbeat_at: string | null
  /** Null when nobody follows. */
  lag: Migration['lag']
  verification: object | null
  /** The mirror is the source. */
  adopt: boolean
  /** Documents that were taken in after the cut-over; null before it. */
  stragglers: number | null
  error: Migration['error']
  collections: Record<string, CountsReport & { documents: number; deleted: number; done: boolean }>
  oddities: Record<string, number>
  /** The oldest first. */
  events: { at: string; from: MigrationState | null; to: MigrationState; by: string; note: string | null }[]
}

export function statusOf(migration: Migration): MigrationStatus {
  const { source, oddities, ...report } = reportOf(migration, { seconds: 0, taken: 0, quarantineFile: null })
  const { read, created, replaced, unchanged, merged, quarantined } = report
  return {
    id: migration.id,
    source,
    state: migration.state,
    pass: migration.pass,
    started_position: migration.started_position,
    started_at: migration.created_at.toISOString(),
    started_by: migration.created_by,
    runner: migration.runner,
    heartbeat_at: migration.heartbeat_at?.toISOString() ?? null,
    lag: migration.lag,
    verification: migration.verification,
    adopt: migration.adopt,
    stragglers: stragglersOf(migration),
    error: migration.error,
    ...{ read, created, replaced, unchanged, merged, quarantined },
    collections: Object.fromEntries(
      migration.collections.map((one) => [
        one.collection,
        { ...countsOf(one), documents: one.documents, deleted: one.deleted, done: one.done },
      ]),
    ),
    oddities,
    events: migration.events.map(({ at, from_state, to_state, by, note }) => ({
      at: at.toISOString(),
      from: from_state,
      to: to_state,
      by,
      note,
    })),
  }
}

/** Documents that were still written to the source when it had been cut over, or null before that. */
export function stragglersOf({ collections, taken_at_cutover: before }: Migration): number | null {
  if (before === null) return null
  const { created, replaced, merged } = sumOf(collections)
  return created + replaced + merged - before
}

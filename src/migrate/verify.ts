import { DualstoreError } from '../server/errors.js'
import type { JobResult } from '../server/schemas/jobs.js'
import type { Migration, MigrationService, SourceFinding } from '../server/services/migrations.js'
import type { Access } from '../server/services/principal.js'
import type { Source } from './sources/contract.js'
import { createCaughtUp } from './verify/caught-up.js'
import { verifyCollection } from './verify/collection.js'
import { differencesIn, sumOfVerified, type VerifyCounts } from './verify/counts.js'

export interface VerifySourceOptions {
  source: Source
  migrations: MigrationService
  migration: Migration
  /** Documents a second at most. */
  rate?: number | undefined
  /** Milliseconds that whoever follows the source may take to catch up. */
  patienceMs?: number
  signal: AbortSignal
  /** Told how many documents were read of all that the source told of when the migration's pass began. */
  onProgress?: (read: number, documents: number) => void
  /** Told of each document that is not on both sides as it must be. */
  onFinding?: (finding: SourceFinding) => Promise<void>
}

/** What comparing the source with PostgreSQL came to. */
export interface SourceVerification {
  /** By collection. */
  source: Record<string, VerifyCounts>
  /** What it says nothing about, in sentences. */
  not_checked: string[]
}

/** What a verification came to, as it is kept with the migration. */
export interface MigrationVerification extends SourceVerification {
  /** Nothing that was checked differs. What was not checked is named. */
  clean: boolean
  /** ISO 8601. */
  at: string
  /** What comparing PostgreSQL with the mirror came to. */
  mirror: JobResult | { skipped: string }
}

const PATIENCE_MS = 30_000

/**
 * The migration that can be verified against this source. @throws NOT_FOUND when there is none; CONFLICT when it is
 * over, is of another source, or reads everything at this time or has to
 */
export async function verifiable(migrations: MigrationService, source: Source): Promise<Migration> {
  const migration = await migrations.current()
  if (migration === undefined) throw new DualstoreError('NOT_FOUND', 'no migration was begun yet')
  const { state, source_identity, source_name } = migration
  if (migrations.isOver(state)) throw new DualstoreError('CONFLICT', `the migration is ${state}`)
  if (source_identity !== source.identity) {
    throw new DualstoreError('CONFLICT', `the migration is from ${source_name}, and not from ${source.name}`)
  }
  if (state === 'planned') {
    throw new DualstoreError('CONFLICT', 'the migration has not read everything yet: run it to its end first')
  }
  if (migrations.isRun(migration) && migration.lag === null) {
    throw new DualstoreError(
      'CONFLICT',
      `${migration.runner} reads the source at this time: wait for its end`,
    )
  }
  return migration
}

/**
 * Compares what the source of a migration holds with what PostgreSQL holds, document by document and both ways.
 * Changes neither.
 * @throws SOURCE_UNAVAILABLE, STORE_UNAVAILABLE, and whatever the signal says when it comes
 */
export async function verifySource(options: VerifySourceOptions): Promise<SourceVerification> {
  const { source, migrations, migration, signal, onProgress = () => {}, onFinding = async () => {} } = options
  const patienceMs = options.patienceMs ?? PATIENCE_MS
  const isFollowed = migrations.isRun(migration) && migration.lag !== null
  const caughtUp = isFollowed ? createCaughtUp(migrations, migration.id, { patienceMs, signal }) : undefined
  const documents = migration.collections.reduce((sum, one) => sum + one.documents, 0)
  let read = 0
  return migrations.compare(migration, async (comparison) => {
    const result: SourceVerification = { source: {}, not_checked: [...(await source.losses())] }
    if (!comparison.knowsClients) {
      result.not_checked.push(
        'what clients wrote soon after the migration began: the change log begins later than that',
      )
    }
    for (const { collection } of migration.collections) {
      result.source[collection] = await verifyCollection(
        {
          source,
          migrations,
          comparison,
          caughtUp,
          rate: options.rate,
          signal,
          onFinding,
          onRead(count) {
            read += count
            onProgress(read, documents)
          },
        },
        collection,
      )
    }
    return result
  })
}

/**
 * Keeps what a verification came to, and moves the migration on when it is clean, or back when a clean one before it
 * holds no longer.
 */
export async function concludeVerification(
  migrations: MigrationService,
  access: Access,
  id: string,
  { source, not_checked }: SourceVerification,
  mirror: MigrationVerification['mirror'],
): Promise<MigrationVerification> {
  const compared = 'agree' in mirror
  const differences = differencesIn(sumOfVerified(Object.values(source)))
  const verification: MigrationVerification = {
    clean: differences === 0 && (!compared || mirror.agree),
    at: new Date().toISOString(),
    source,
    mirror,
    not_checked: [...not_checked, ...(compared ? mirror.not_checked : [`the mirror: ${mirror.skipped}`])],
  }
  await migrations.storeVerification(id, verification)
  const { state, events } = await migrations.get(id)
  const by = access.principal.id
  if (verification.clean && (state === 'backfilled' || state === 'following')) {
    await migrations.moveTo(id, 'verified', by, 'the verification is clean')
  } else if (!verification.clean && state === 'verified') {
    const before = events.findLast(({ to_state }) => to_state === 'verified')?.from_state
    await migrations.moveTo(id, before === 'backfilled' ? 'backfilled' : 'following', by, 'it differs')
  }
  return verification
}

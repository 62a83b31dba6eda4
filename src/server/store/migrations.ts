import { type Queryable, query } from '../db/pool.js'

/** Where a migration stands; services/migrations/states.ts says what may follow what. */
export type MigrationState =
  | 'planned'
  | 'backfilled'
  | 'following'
  | 'verified'
  | 'cut_over'
  | 'finished'
  | 'rolled_back'

/** What is waiting in the source while somebody follows it. */
export interface Lag {
  /** Documents that the source is known to hold and that were not taken in yet. */
  behind: number
  /** How long ago nothing was waiting. */
  seconds: number
  /** ISO 8601. */
  at: string
}

/** A migration as it is stored. */
export interface StoredMigration {
  id: string
  source_kind: 'mongo' | 'http'
  source_name: string
  source_identity: string
  state: MigrationState
  options: object
  pass: number
  /** Of the log: `<epoch>-<position>`. */
  started_position: string
  lag: Lag | null
  verification: object | null
  /** What was last asked of the runner, and answered by it: see askRunner. */
  question: number
  answered: number
  /** The mirror is the source. */
  adopt: boolean
  /** The log's end before clients were first asked to switch; null before that. */
  switch_position: string | null
  /** Documents that had been taken in when it was cut over; null before that. */
  taken_at_cutover: number | null
  /** A rollback is under way: the runner is to end, and none may begin. */
  rolling_back: boolean
  error: { code: string; message: string } | null
  runner: string | null
  heartbeat_at: Date | null
  /** Milliseconds since the runner was last heard of, by PostgreSQL's clock; null when there is none. */
  silence_ms: number | null
  created_by: string
  created_at: Date
  updated_at: Date
}

/** What was counted of a collection in the present pass: read is always the sum of the five behind it. */
export interface Counts {
  read: number
  created: number
  replaced: number
  unchanged: number
  merged: number
  quarantined: number
}

export interface StoredProgress extends Counts {
  collection: string
  /** In the source, as it told at the beginning of the pass. */
  documents: number
  deleted: number
  oddities: Readonly<Record<string, number>>
  checkpoint: string | null
  follow_checkpoint: string | null
  done: boolean
}

export interface MigrationEvent {
  at: Date
  from_state: MigrationState | null
  to_state: MigrationState
  by: string
  note: string | null
}

const COLUMNS = `id, source_kind, source_name, source_identity, state, options, pass, started_position, lag, verification,
  question, answered, adopt, switch_position, taken_at_cutover, rolling_back, error, runner, heartbeat_at, (extract(epoch FROM clock_timestamp() - heartbeat_at) * 1000)::bigint AS silence_ms,
  created_by, created_at, updated_at`

/** Makes a migration; the transaction that makes it tells what was there before. */
export async function insertMigration(
  tx: Queryable,
  migration: Pick<
    StoredMigration,
    | 'id'
    | 'source_kind'
    | 'source_name'
    | 'source_identity'
    | 'options'
    | 'adopt'
    | 'started_position'
    | 'created_by'
  >,
): Promise<void> {
  await query(
    tx,
    `INSERT INTO dualstore.source_migrations
       (id, source_kind, source_name, source_identity, options, adopt, started_position, created_by)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
    [
      migration.id,
      migration.source_kind,
      migration.source_name,
      migration.source_identity,
      JSON.stringify(migration.options),
      migration.adopt,
      migration.started_position,
      migration.created_by,
    ],
  )
  await insertEvent(tx, migration.id, { from: null, to: 'planned', by: migration.created_by, note: null })
}

export async function readMigration(on: Queryable, id: string): Promise<StoredMigration | undefined> {
  const rows = await query<StoredMigration>(
    on,
    `SELECT ${COLUMNS} FROM dualstore.source_migrations WHERE id = $1`,
    [id],
  )
  return rows[0]
}

/** The unfinished migration, of which there is one at most. */
export async function readUnfinished(on: Queryable): Promise<StoredMigration | undefined> {
  const rows = await query<StoredMigration>(
    on,
    `SELECT ${COLUMNS} FROM dualstore.source_migrations WHERE state NOT IN ('finished', 'rolled_back')`,
  )
  return rows[0]
}

/** The newest first. */
export async function listMigrations(on: Queryable, limit: number): Promise<StoredMigration[]> {
  return query<StoredMigration>(
    on,
    `SELECT ${COLUMNS} FROM dualstore.source_migrations ORDER BY created_at DESC, id DESC LIMIT $1`,
    [limit],
  )
}

/** By name. */
export async function readProgress(on: Queryable, id: string): Promise<StoredProgress[]> {
  return query<StoredProgress>(
    on,
    `SELECT collection, documents, read, created, replaced, unchanged, merged, quarantined, deleted, oddities,
       checkpoint, follow_checkpoint, done
     FROM dualstore.migration_collections WHERE migration = $1 ORDER BY collection`,
    [id],
  )
}

/** The oldest first. */
export async function readEvents(on: Queryable, id: string): Promise<MigrationEvent[]> {
  return query<MigrationEvent>(
    on,
    `SELECT at, from_state, to_state, by, note FROM dualstore.migration_events WHERE migration = $1 ORDER BY number`,
    [id],
  )
}

/** Tells what came to pass; a state that stays the same is named twice. */
export async function insertEvent(
  tx: Queryable,
  id: string,
  event: { from: MigrationState | null; to: MigrationState; by: string; note: string | null },
): Promise<void> {
  await query(
    tx,
    `INSERT INTO dualstore.migration_events (migration, from_state, to_state, by, note) VALUES ($1, $2, $3, $4, $5)`,
    [id, event.from, event.to, event.by, event.note],
  )
}

/** Moves a migration on from exactly this state, and tells when and by whom. False when it is in another state. */
export async function changeState(
  tx: Queryable,
  id: string,
  change: { from: MigrationState; to: MigrationState; by: string; note: string | null },
): Promise<boolean> {
  const rows = await query(
    tx,
    `UPDATE dualstore.source_migrations SET state = $3, updated_at = now()
     WHERE id = $1 AND state = $2 RETURNING 1 AS done`,
    [id, change.from, change.to],
  )
  if (rows.length === 0) return false
  await insertEvent(tx, id, change)
  return true
}

/**
 * Gives a migration to a runner when nobody has it, or whoever had it was not heard of for this long. What the one
 * before has under way is waited for.
 * @param instead The runner that this one stands in for: the same process under another name.
 * @returns whether it is this runner's now.
 */
export async function claimMigration(
  on: Queryable,
  id: string,
  runner: string,
  { silenceMs, instead }: { silenceMs: number; instead?: string | undefined },
): Promise<boolean> {
  const rows = await query(
    on,
    `UPDATE dualstore.source_migrations SET runner = $2, heartbeat_at = clock_timestamp(), error = NULL
     WHERE id = $1 AND (runner IS NULL OR runner = $4
       OR heartbeat_at < clock_timestamp() - $3 * interval '1 millisecond')
     RETURNING 1 AS done`,
    [id, runner, silenceMs, instead ?? null],
  )
  return rows.length > 0
}

/** What a runner tells with its heartbeat. */
export interface Beat {
  lag: Lag | null
  /** The last question behind which it has looked at the whole source; 0 when there is none. */
  answered: number
}

/** Tells that a runner is alive, and how far it is. @returns undefined when another one has the migration now. */
export async function beat(
  on: Queryable,
  id: string,
  runner: string,
  { lag, answered }: Beat,
): Promise<Pick<StoredMigration, 'state' | 'question' | 'rolling_back'> | undefined> {
  const rows = await query<Pick<StoredMigration, 'state' | 'question' | 'rolling_back'>>(
    on,
    `UPDATE dualstore.source_migrations
     SET heartbeat_at = clock_timestamp(), lag = $3, answered = greatest(answered, $4)
     WHERE id = $1 AND runner = $2 RETURNING state, question, rolling_back`,
    [id, runner, lag && JSON.stringify(lag), answered],
  )
  return rows[0]
}

/**
 * Asks the runner whether everything was taken in that is written to the source by now; its answer is there when
 * `answered` has reached the number that is returned.
 */
export async function askRunner(on: Queryable, id: string): Promise<number> {
  const rows = await query<{ question: number }>(
    on,
    'UPDATE dualstore.source_migrations SET question = question + 1 WHERE id = $1 RETURNING question',
    [id],
  )
  return rows[0]?.question ?? 0
}

/** Keeps where the log ended before clients were first asked to switch; a later place is not kept. */
export async function storeSwitchPosition(on: Queryable, id: string, position: string): Promise<void> {
  await query(
    on,
    `UPDATE dualstore.source_migrations SET switch_position = coalesce(switch_position, $2), updated_at = now()
     WHERE id = $1`,
    [id, position],
  )
}

/** Says whether a rollback is under way. */
export async function storeRollingBack(on: Queryable, id: string, rollingBack: boolean): Promise<void> {
  await query(
    on,
    `UPDATE dualstore.source_migrations SET rolling_back = $2, updated_at = now()
     WHERE id = $1 AND rolling_back <> $2`,
    [id, rollingBack],
  )
}

/** Takes a migration from whoever runs it; what that one has under way is waited for, and then refused. */
export async function dismissRunner(on: Queryable, id: string): Promise<void> {
  await query(on, 'UPDATE dualstore.source_migrations SET runner = NULL WHERE id = $1', [id])
}

/** Keeps how many documents have been taken in by now. */
export async function storeTakenAtCutover(tx: Queryable, id: string): Promise<void> {
  await query(
    tx,
    `UPDATE dualstore.source_migrations SET taken_at_cutover = (
       SELECT coalesce(sum(created + replaced + merged), 0) FROM dualstore.migration_collections WHERE migration = $1
     ) WHERE id = $1`,
    [id],
  )
}

/** Gives a migration back, unless another runner has it now. */
export async function releaseMigration(
  on: Queryable,
  id: string,
  runner: string,
  error: { code: string; message: string } | null,
): Promise<void> {
  await query(
    on,
    `UPDATE dualstore.source_migrations SET runner = NULL, error = $3, updated_at = now()
     WHERE id = $1 AND runner = $2`,
    [id, runner, error && JSON.stringify(error)],
  )
}

/** Keeps what a verification found. */
export async function storeVerification(on: Queryable, id: string, verification: object): Promise<void> {
  await query(
    on,
    'UPDATE dualstore.source_migrations SET verification = $2, updated_at = now() WHERE id = $1',
    [id, JSON.stringify(verification)],
  )
}

/** Makes sure that a migration knows these collections, each at the beginning of its first pass. */
export async function addCollections(
  tx: Queryable,
  id: string,
  collections: readonly { collection: string; documents: number }[],
): Promise<void> {
  await query(
    tx,
    `INSERT INTO dualstore.migration_collections (migration, collection, documents)
     SELECT $1, * FROM unnest($2::text[], $3::bigint[]) ON CONFLICT DO NOTHING`,
    [id, collections.map(({ collection }) => collection), collections.map(({ documents }) => documents)],
  )
}

/** Sets these collections back to the beginning of another pass; where following goes on stays. */
export async function beginPass(
  tx: Queryable,
  id: string,
  collections: readonly { collection: string; documents: number }[],
): Promise<void> {
  await query(
    tx,
    `UPDATE dualstore.migration_collections c SET
       documents = g.documents, read = 0, created = 0, replaced = 0, unchanged = 0, merged = 0, quarantined = 0,
       deleted = 0, oddities = '{}', checkpoint = NULL, done = false
     FROM unnest($2::text[], $3::bigint[]) AS g(collection, documents)
     WHERE c.migration = $1 AND c.collection = g.collection`,
    [id, collections.map(({ collection }) => collection), collections.map(({ documents }) => documents)],
  )
  await query(tx, 'DELETE FROM dualstore.migration_quarantine WHERE collection = ANY ($1)', [
    collections.map(({ collection }) => collection),
  ])
  await query(tx, 'UPDATE dualstore.source_migrations SET pass = pass + 1 WHERE id = $1', [id])
}

/** Keeps the place from which following misses nothing, unless there is one. */
export async function storeMark(
  on: Queryable,
  id: string,
  collection: string,
  checkpoint: string,
): Promise<void> {
  await query(
    on,
    `UPDATE dualstore.migration_collections SET follow_checkpoint = coalesce(follow_checkpoint, $3)
     WHERE migration = $1 AND collection = $2`,
    [id, collection, checkpoint],
  )
}

/** Tells that all of a collection was read in this pass, unless another runner has the migration now. */
export async function endCollection(
  on: Queryable,
  id: string,
  runner: string,
  collection: string,
): Promise<void> {
  await query(
    on,
    `UPDATE dualstore.migration_collections SET done = true WHERE migration = $1 AND collection = $3
       AND EXISTS (SELECT FROM dualstore.source_migrations m WHERE m.id = $1 AND m.runner = $2)`,
    [id, runner, collection],
  )
}

import { type Queryable, query } from '../db/pool.js'
import type { CollectionDefinition } from '../schemas/collection.js'

export type CollectionState = 'active' | 'dropping' | 'dropped'

export interface StoredCollection {
  definition: CollectionDefinition
  state: CollectionState
  /** Counts the changes of the definition. */
  version: number
  created_at: Date
  updated_at: Date
}

const COLUMNS = 'definition, state, version, created_at, updated_at'

/** Every collection, dropped ones included: followers still meet their last changes. */
export async function readCollections(on: Queryable): Promise<StoredCollection[]> {
  return query<StoredCollection>(on, `SELECT ${COLUMNS} FROM dualstore.collections ORDER BY name`)
}

/**
 * The next collection by name behind `after`, dropped ones included; undefined when there is none.
 * @param among Only these; undefined: any.
 */
export async function nextCollection(
  on: Queryable,
  after: string,
  among: Iterable<string> | undefined,
): Promise<CollectionDefinition | undefined> {
  const rows = await query<{ definition: CollectionDefinition }>(
    on,
    `SELECT definition FROM dualstore.collections
     WHERE name > $1 AND ($2::text[] IS NULL OR name = ANY ($2)) ORDER BY name LIMIT 1`,
    [after, among === undefined ? null : [...among]],
  )
  return rows[0]?.definition
}

/** Locks and reads one collection for the rest of the transaction. */
export async function lockCollection(tx: Queryable, name: string): Promise<StoredCollection | undefined> {
  const rows = await query<StoredCollection>(
    tx,
    `SELECT ${COLUMNS} FROM dualstore.collections WHERE name = $1 FOR UPDATE`,
    [name],
  )
  return rows[0]
}

/**
 * The collection besides `name` whose documents are mirrored into this one; undefined when there is none. Until the
 * transaction ends nobody else changes definitions, so that the answer stays true.
 */
export async function findMirrored(
  tx: Queryable,
  mirrorCollection: string,
  name: string,
): Promise<string | undefined> {
  await query(tx, 'LOCK TABLE dualstore.collections IN SHARE ROW EXCLUSIVE MODE')
  const rows = await query<{ name: string }>(
    tx,
    `SELECT name FROM dualstore.collections
     WHERE state <> 'dropped' AND name <> $2 AND definition -> 'mirror' ->> 'collection' = $1`,
    [mirrorCollection, name],
  )
  return rows[0]?.name
}

/** Adds a collection with its partition. A dropped one of that name is taken over; false when the name is in use. */
export async function insertCollection(tx: Queryable, definition: CollectionDefinition): Promise<boolean> {
  const rows = await query(
    tx,
    `INSERT INTO dualstore.collections AS c (name, definition) VALUES ($1, $2)
     ON CONFLICT (name) DO UPDATE SET
       definition = EXCLUDED.definition, state = 'active', version = c.version + 1, updated_at = now()
     WHERE c.state = 'dropped'
     RETURNING name`,
    [definition.name, JSON.stringify(definition)],
  )
  if (rows.length === 0) return false
  await query(tx, 'SELECT dualstore.create_partition($1)', [definition.name])
  return true
}

export async function updateDefinition(tx: Queryable, definition: CollectionDefinition): Promise<void> {
  await query(
    tx,
    `UPDATE dualstore.collections SET definition = $2, version = version + 1, updated_at = now() WHERE name = $1`,
    [definition.name, JSON.stringify(definition)],
  )
}

/** Marks how far a drop has come. At the end the row stays, without a partition, for followers that lag behind. */
export async function setCollectionState(tx: Queryable, name: string, state: CollectionState): Promise<void> {
  await query(
    tx,
    'UPDATE dualstore.collections SET state = $2, version = version + 1, updated_at = now() WHERE name = $1',
    [name, state],
  )
}

export async function dropPartition(tx: Queryable, name: string): Promise<void> {
  await query(tx, 'SELECT dualstore.drop_partition($1)', [name])
}

/** PostgreSQL's own estimate of how many documents each collection has, from its last ANALYZE. */
export async function estimateCounts(on: Queryable): Promise<Map<string, number>> {
  const rows = await query<{ name: string; estimate: number }>(
    on,
    `SELECT c.name, greatest(p.reltuples, 0)::bigint AS estimate
     FROM dualstore.collections c JOIN pg_class p ON p.oid = to_regclass(format('dualstore.%I', 'documents_' || c.name))`,
  )
  return new Map(rows.map((row) => [row.name, row.estimate]))
}

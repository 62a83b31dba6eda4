import { type Queryable, query } from '../db/pool.js'
import { jsonArray } from './arrays.js'
import type { Intake } from './migrations-intake.js'

/** What became of a document of the source, as PostgreSQL holds it. */
export type Standing =
  /** Stored as it is in the source. */
  | 'equal'
  /** Another one of its id is stored: this one stands in the history, or a client has written since. */
  | 'superseded'
  /** Stands in the quarantine. */
  | 'quarantined'
  /** Nowhere. */
  | 'missing'
  /** Under its id stands another one that is not newer. */
  | 'different'

/** A document of the source that is not stored as it is there. */
export interface UnlikeRow {
  source_id: string
  id: string
  standing: Standing
  /** The item in the source and the stored one as JSON text; null where nothing is stored. */
  wanted: string
  stored: string | null
  /** The times beside the stored item, epoch milliseconds. */
  stored_created_at: number | null
  stored_updated_at: number | null
  /** What stands in the quarantine under this name; null when nothing does. */
  quarantined: string | null
}

/** A stored document that the source does not hold. */
export interface ExtraRow {
  id: string
  /** A client of dualstore has written it since the migration began. */
  own: boolean
  /** The migration has written it since the comparison began. */
  arrived: boolean
}

/** Whose changes are no client's. Nobody's name stands at what was written past the program. */
const BY_CLIENT = "author IS NOT NULL AND author NOT LIKE 'migration:%'"

/**
 * Makes what a comparison remembers: tables of this session alone, gone with it. A transaction would hold the log's
 * locks, and keep vacuum away, for as long as everything is read; so this is no session of PgBouncer in transaction mode.
 */
export async function openComparison(session: Queryable): Promise<void> {
  await query(session, 'SET statement_timeout = 0')
  await query(session, 'CREATE TEMPORARY TABLE seen_in_source (id text COLLATE "C" NOT NULL)')
  await query(
    session,
    'CREATE TEMPORARY TABLE not_in_source (id text COLLATE "C" PRIMARY KEY, own boolean, arrived boolean)',
  )
  await query(
    session,
    `CREATE TEMPORARY TABLE touched_by_clients (
       collection text COLLATE "C", id text COLLATE "C", PRIMARY KEY (collection, id)
     )`,
  )
}

/** Forgets all of it. */
export async function closeComparison(session: Queryable): Promise<void> {
  await query(
    session,
    'DROP TABLE IF EXISTS pg_temp.seen_in_source, pg_temp.not_in_source, pg_temp.touched_by_clients',
  )
  await query(session, 'RESET statement_timeout')
}

/** Begins with another collection. */
export async function forgetSeen(session: Queryable): Promise<void> {
  await query(session, 'TRUNCATE pg_temp.seen_in_source')
}

/** Remembers which ids the source holds; one may be told again and again. */
export async function addSeen(session: Queryable, ids: readonly string[]): Promise<void> {
  await query(session, 'INSERT INTO pg_temp.seen_in_source SELECT unnest($1::text[])', [ids])
}

/** Remembers which documents clients have written behind a position of the log. @returns how many were not known. */
export async function addTouched(session: Queryable, after: number): Promise<number> {
  const rows = await query<{ added: number }>(
    session,
    `WITH added AS (
       INSERT INTO pg_temp.touched_by_clients
       SELECT DISTINCT collection, id FROM dualstore.changes WHERE seq > $1 AND ${BY_CLIENT}
       ON CONFLICT DO NOTHING RETURNING 1
     ) SELECT count(*) AS added FROM added`,
    [after],
  )
  return rows[0]?.added ?? 0
}

/**
 * Which documents of the source are not stored as they are there, told by their places: compared as jsonb, so that
 * numbers are equal by value, and with the times beside the item.
 */
export async function readUnlike(
  session: Queryable,
  { collection, ids, texts, createdAts, updatedAts }: Intake,
): Promise<number[]> {
  const rows = await query<{ place: number }>(
    session,
    `SELECT a.place - 1 AS place
     FROM ROWS FROM (unnest($2::text[]), jsonb_array_elements($3), unnest($4::bigint[]), unnest($5::bigint[]))
       WITH ORDINALITY AS a(id, item, created_at, updated_at, place)
     LEFT JOIN dualstore.documents d ON d.collection = $1 AND d.id = a.id
     WHERE d.item IS DISTINCT FROM a.item OR d.created_at <> a.created_at OR d.updated_at <> a.updated_at
     ORDER BY a.place`,
    [collection, ids, jsonArray(texts), createdAts, updatedAts],
  )
  return rows.map(({ place }) => place)
}

/** What became of documents that are not stored as they are in the source. */
export async function explainUnlike(
  session: Queryable,
  migration: string,
  { collection, ids, texts, createdAts, updatedAts, sourceIds }: Intake,
): Promise<UnlikeRow[]> {
  return query<UnlikeRow>(
    session,
    `SELECT a.source_id, a.id, a.item::text AS wanted, d.item::text AS stored,
       d.created_at AS stored_created_at, d.updated_at AS stored_updated_at, q.document AS quarantined,
       CASE
         WHEN d.item = a.item AND d.created_at = a.created_at AND d.updated_at = a.updated_at THEN 'equal'
         WHEN d.updated_at >= a.updated_at AND EXISTS (
           SELECT FROM dualstore.migration_history h
           WHERE h.collection = $1 AND h.id = a.id AND h.digest = dualstore.item_digest(a.item::text)
             AND h.item::jsonb = a.item
         ) THEN 'superseded'
         WHEN (d.id IS NULL OR d.updated_at > a.updated_at) AND EXISTS (
           SELECT FROM pg_temp.touched_by_clients t WHERE t.collection = $1 AND t.id = a.id
         ) THEN 'superseded'
         WHEN q.document IS NOT NULL THEN 'quarantined'
         WHEN d.id IS NULL OR d.updated_at > a.updated_at THEN 'missing'
         ELSE 'different'
       END AS standing
     FROM ROWS FROM (unnest($2::text[]), jsonb_array_elements($3), unnest($4::bigint[]), unnest($5::bigint[]),
       unnest($6::text[])) WITH ORDINALITY AS a(id, item, created_at, updated_at, source_id, place)
     LEFT JOIN dualstore.documents d ON d.collection = $1 AND d.id = a.id
     LEFT JOIN dualstore.migration_quarantine q
       ON q.collection = $1 AND q.source_id = a.source_id AND q.migration = $7
     ORDER BY a.place`,
    [collection, ids, jsonArray(texts), createdAts, updatedAts, sourceIds, migration],
  )
}

/** Which of these documents stand in the quarantine of a migration exactly so, by their names in the source. */
export async function readQuarantined(
  session: Queryable,
  migration: string,
  { collection, quarantined }: Intake,
): Promise<Set<string>> {
  const rows = await query<{ source_id: string }>(
    session,
    `SELECT q.source_id FROM unnest($3::text[], $4::text[]) AS r(source_id, document)
     JOIN dualstore.migration_quarantine q
       ON q.collection = $1 AND q.source_id = r.source_id AND q.migration = $2 AND q.document = r.document`,
    [
      collection,
      migration,
      quarantined.map(({ source_id }) => source_id),
      quarantined.map(({ document }) => document),
    ],
  )
  return new Set(rows.map(({ source_id }) => source_id))
}

/**
 * Finds the stored documents whose ids were not seen.
 * @param began Where the log ended when the comparison began.
 * @param upTo What the migration has added behind this place of the log is left out.
 * @returns how many of them the migration has written since it began: the source may only have told of them too late.
 */
export async function findExtras(
  session: Queryable,
  collection: string,
  { began, upTo }: { began: number; upTo: number },
): Promise<number> {
  await query(session, 'ANALYZE pg_temp.seen_in_source')
  await query(session, 'TRUNCATE pg_temp.not_in_source')
  await query(
    session,
    `INSERT INTO pg_temp.not_in_source
     SELECT d.id,
       EXISTS (SELECT FROM pg_temp.touched_by_clients t WHERE t.collection = $1 AND t.id = d.id),
       c.id IS NOT NULL
     FROM dualstore.documents d
     LEFT JOIN (
       SELECT id, bool_or(seq > $3 AND op = 'insert') AS late FROM dualstore.changes
       WHERE seq > $2 AND collection = $1 AND author LIKE 'migration:%' GROUP BY id
     ) c ON c.id = d.id
     WHERE d.collection = $1 AND c.late IS NOT TRUE
       AND NOT EXISTS (SELECT FROM pg_temp.seen_in_source s WHERE s.id = d.id)`,
    [collection, began, upTo],
  )
  const rows = await query<{ arrived: number }>(
    session,
    'SELECT count(*) AS arrived FROM pg_temp.not_in_source WHERE arrived AND NOT own',
  )
  return rows[0]?.arrived ?? 0
}

/** What findExtras found behind an id, by id. */
export async function readExtras(session: Queryable, after: string, limit: number): Promise<ExtraRow[]> {
  return query<ExtraRow>(
    session,
    'SELECT id, own, arrived FROM pg_temp.not_in_source WHERE id > $1 ORDER BY id LIMIT $2',
    [after, limit],
  )
}

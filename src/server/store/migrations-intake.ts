import { type Queryable, query } from '../db/pool.js'
import { bigints, jsonArray, texts } from './arrays.js'
import type { Counts } from './migrations.js'

export interface QuarantinedDocument {
  collection: string
  source_id: string
  id: string | null
  reason: string
  /** Canonical extended JSON. */
  document: string
}

/** A document that had to give way to another one of its id. */
export interface HistoryEntry {
  digest: string
  item: string
  updated_at: number
  source_id: string | null
  migration: string
  at: Date
}

/** Documents of one collection in the source's order, as dualstore.take_in takes them. */
export interface Intake {
  collection: string
  ids: string[]
  /** Items as JSON text. */
  texts: string[]
  createdAts: number[]
  updatedAts: number[]
  sourceIds: string[]
  /** Which of its id's documents each one is, from 1; null when every id stands once. */
  turns: number[] | null
  quarantined: Omit<QuarantinedDocument, 'collection'>[]
  /** Number of documents by kind of oddity. */
  oddities: Readonly<Record<string, number>>
  following: boolean
  /** Where to go on behind these. */
  checkpoint: string
  /** Told by the source to be deleted there. */
  deleted: number
}

/** What became of the documents that were not quarantined. */
export type Taken = Pick<Counts, 'created' | 'replaced' | 'unchanged' | 'merged'>

/**
 * Takes documents in with everything that is to be remembered of it, in one statement (migration 0013).
 * @returns undefined when another runner has the migration now, or it is over.
 */
export async function takeIn(
  on: Queryable,
  id: string,
  runner: string,
  intake: Intake,
): Promise<Taken | undefined> {
  const rows = await query<Taken>(
    on,
    'SELECT * FROM dualstore.take_in($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)',
    [
      id,
      runner,
      intake.collection,
      texts(intake.ids),
      jsonArray(intake.texts),
      bigints(intake.updatedAts),
      bigints(intake.createdAts),
      texts(intake.sourceIds),
      intake.turns,
      JSON.stringify(intake.quarantined),
      intake.following,
      intake.checkpoint,
      intake.deleted,
      JSON.stringify(intake.oddities),
    ],
    'take_in',
  )
  return rows[0]
}

/** What a migration has put into quarantine behind a place, by collection and place in the source. */
export async function readQuarantine(
  on: Queryable,
  migration: string,
  after: { collection: string; source_id: string },
  limit: number,
): Promise<QuarantinedDocument[]> {
  return query<QuarantinedDocument>(
    on,
    `SELECT collection, source_id, id, reason, document FROM dualstore.migration_quarantine
     WHERE (collection, source_id) > ($1, $2) AND migration = $4 ORDER BY collection, source_id LIMIT $3`,
    [after.collection, after.source_id, limit, migration],
  )
}

/** Those of these places of a source that are in quarantine. */
export async function readQuarantinedAmong(
  on: Queryable,
  collection: string,
  sourceIds: readonly string[],
): Promise<string[]> {
  const rows = await query<{ source_id: string }>(
    on,
    'SELECT source_id FROM dualstore.migration_quarantine WHERE collection = $1 AND source_id = ANY ($2)',
    [collection, sourceIds],
  )
  return rows.map(({ source_id }) => source_id)
}

/** The documents that gave way to others of this id, the newest first. */
export async function readHistory(on: Queryable, collection: string, id: string): Promise<HistoryEntry[]> {
  return query<HistoryEntry>(
    on,
    `SELECT digest, item, updated_at, source_id, migration, at FROM dualstore.migration_history
     WHERE collection = $1 AND id = $2 ORDER BY updated_at DESC, digest`,
    [collection, id],
  )
}

/** What take_in would make of documents, each looked at alone; nothing is written. */
export async function forecast(
  on: Queryable,
  { collection, ids, texts, updatedAts }: Pick<Intake, 'collection' | 'ids' | 'texts' | 'updatedAts'>,
): Promise<('created' | 'replaced' | 'unchanged' | 'merged')[]> {
  const rows = await query<{ verdict: 'created' | 'replaced' | 'unchanged' | 'merged' }>(
    on,
    `SELECT CASE
       WHEN d.id IS NULL AND m.since IS NOT NULL AND dualstore.deleted_by_client($1, a.id, m.since, a.updated_at)
         THEN 'merged'
       WHEN d.id IS NULL THEN 'created'
       WHEN d.item = a.item THEN 'unchanged'
       WHEN a.updated_at > d.updated_at THEN 'replaced'
       WHEN a.updated_at = d.updated_at AND NOT EXISTS (
         SELECT FROM dualstore.migration_history h
         WHERE h.collection = $1 AND h.id = a.id AND h.digest = dualstore.item_digest(a.item::text)
       ) THEN 'replaced'
       ELSE 'merged' END AS verdict
     FROM ROWS FROM (unnest($2::text[]), jsonb_array_elements($3), unnest($4::bigint[]))
       WITH ORDINALITY AS a(id, item, updated_at, place)
     LEFT JOIN dualstore.documents d ON d.collection = $1 AND d.id = a.id
     LEFT JOIN (
       SELECT split_part(started_position, '-', 2)::bigint AS since FROM dualstore.source_migrations
       WHERE state NOT IN ('finished', 'rolled_back')
     ) m ON true
     ORDER BY a.place`,
    [collection, ids, jsonArray(texts), updatedAts],
  )
  return rows.map(({ verdict }) => verdict)
}

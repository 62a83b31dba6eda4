import { type Queryable, query } from '../db/pool.js'
import type { CollectionDefinition } from '../schemas/collection.js'

/** A document with everything that is stored of it; the item as JSON text. */
export interface WholeDocument {
  id: string
  version: number
  /** Epoch milliseconds. */
  created_at: number
  updated_at: number
  text: string
}

/** A collection with everything that is stored of it; the times as PostgreSQL writes them, in microseconds. */
export interface WholeCollection {
  name: string
  definition: CollectionDefinition
  version: number
  created_at: string
  updated_at: string
}

const PAGE_SIZE = 1000
/** Stored bytes, compressed as they are, of the documents in one page. */
const PAGE_BYTES = 4 * 1024 * 1024

/** The active collections by name, each with what its table is, to be asked about again. */
export async function wholeCollections(
  tx: Queryable,
): Promise<(WholeCollection & { table: number | null })[]> {
  return query(
    tx,
    `SELECT name, definition, version, to_json(created_at) #>> '{}' AS created_at,
       to_json(updated_at) #>> '{}' AS updated_at, p.oid AS table
     FROM dualstore.collections c
     LEFT JOIN pg_class p ON p.relnamespace = 'dualstore'::regnamespace AND p.relname = 'documents_' || c.name
     WHERE state = 'active' ORDER BY name`,
  )
}

/** What a collection's table is at this moment, whatever the transaction's snapshot shows; null when it is gone. */
export async function presentTable(tx: Queryable, name: string): Promise<number | null> {
  const rows = await query<{ table: number | null }>(
    tx,
    `SELECT to_regclass(format('dualstore.%I', 'documents_' || $1))::oid AS table`,
    [name],
  )
  return rows[0]?.table ?? null
}

/** The documents behind an id, as many as fit into a page; none at the end. */
export async function wholePage(tx: Queryable, collection: string, after: string): Promise<WholeDocument[]> {
  return query<WholeDocument>(
    tx,
    `SELECT id, version, created_at, updated_at, text FROM (
       SELECT id, version, created_at, updated_at, item::text AS text,
         sum(pg_column_size(item)) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - pg_column_size(item) AS before
       FROM (
         SELECT * FROM dualstore.documents WHERE collection = $1 AND id > $2 ORDER BY id LIMIT $3
       ) d
     ) d WHERE before < $4 ORDER BY id`,
    [collection, after, PAGE_SIZE, PAGE_BYTES],
  )
}

/** True when there is nothing to lose: no document, and no collection but those named. */
export async function isEmpty(tx: Queryable, expected: readonly string[]): Promise<boolean> {
  const rows = await query<{ empty: boolean }>(
    tx,
    `SELECT NOT EXISTS (SELECT FROM dualstore.documents) AND NOT EXISTS (
       SELECT FROM dualstore.collections WHERE state <> 'dropped' AND name <> ALL ($1)) AS empty`,
    [expected],
  )
  return rows[0]?.empty ?? false
}

/**
 * Makes a collection what it was, with its partition. One that is there already gets a version of its own, so that
 * whoever knows its definition by the version notices.
 */
export async function restoreCollection(tx: Queryable, collection: WholeCollection): Promise<void> {
  const { name, definition, version, created_at, updated_at } = collection
  await query(
    tx,
    `INSERT INTO dualstore.collections AS c (name, definition, version, created_at, updated_at)
     VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (name) DO UPDATE SET
       definition = EXCLUDED.definition, state = 'active', version = greatest(c.version + 1, EXCLUDED.version),
       created_at = EXCLUDED.created_at, updated_at = EXCLUDED.updated_at`,
    [name, JSON.stringify(definition), version, created_at, updated_at],
  )
  await query(tx, 'SELECT dualstore.create_partition($1)', [name])
}

/** What restoring some documents changed. */
export interface Restored {
  deleted: number
  inserted: number
}

/**
 * Makes a stretch of a collection what it was, through the log: in (after, upTo] there are these documents then, which
 * are all in it, and no others. Documents that are so already are left alone. A version can only be set by inserting,
 * so what differs is deleted first.
 * @param upTo null: to the end.
 */
export async function restoreStretch(
  tx: Queryable,
  collection: string,
  { after, upTo }: { after: string; upTo: string | null },
  documents: readonly WholeDocument[],
): Promise<Restored> {
  const values = [
    collection,
    documents.map(({ id }) => id),
    documents.map(({ version }) => version),
    documents.map((document) => document.created_at),
    documents.map((document) => document.updated_at),
    documents.map(({ text }) => text),
  ]
  const input = `unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[])
    AS i(id, version, created_at, updated_at, item)`
  const deleted = await query<{ count: number }>(
    tx,
    `WITH gone AS (
       DELETE FROM dualstore.documents d
       WHERE collection = $1 AND id > $7 AND ($8::text IS NULL OR id <= $8) AND NOT EXISTS (
         SELECT FROM ${input} WHERE i.id = d.id AND i.version = d.version AND i.created_at = d.created_at
           AND i.updated_at = d.updated_at AND i.item = d.item::text)
       RETURNING 1
     ) SELECT count(*) AS count FROM gone`,
    [...values, after, upTo],
  )
  const inserted = await query<{ count: number }>(
    tx,
    `WITH made AS (
       INSERT INTO dualstore.documents (collection, id, version, item, created_at, updated_at)
       SELECT $1, id, version, item::jsonb, created_at, updated_at FROM ${input}
       ON CONFLICT DO NOTHING
       RETURNING 1
     ) SELECT count(*) AS count FROM made`,
    values,
  )
  return { deleted: deleted[0]?.count ?? 0, inserted: inserted[0]?.count ?? 0 }
}

/** Which of these ids a collection does not hold. */
export async function missingAmong(
  tx: Queryable,
  collection: string,
  ids: readonly string[],
): Promise<string[]> {
  const rows = await query<{ id: string }>(
    tx,
    `SELECT id FROM unnest($2::text[]) AS given(id)
     WHERE NOT EXISTS (SELECT FROM dualstore.documents d WHERE d.collection = $1 AND d.id = given.id)`,
    [collection, ids],
  )
  return rows.map(({ id }) => id)
}

/** Forgets what creates were answered: their documents may be gone. */
export async function forgetAllKeys(tx: Queryable): Promise<void> {
  await query(tx, 'DELETE FROM dualstore.idempotency')
}

/** The API keys as JSON text, by id: hashes, never a secret. */
export async function storedKeys(tx: Queryable): Promise<string[]> {
  const rows = await query<{ text: string }>(
    tx,
    'SELECT to_jsonb(k)::text AS text FROM dualstore.api_keys k ORDER BY id',
  )
  return rows.map(({ text }) => text)
}

/** Adds API keys that are not there; one that is there stays as it is, revoked ones too. Returns how many were added. */
export async function restoreKeys(tx: Queryable, texts: readonly string[]): Promise<number> {
  const rows = await query<{ count: number }>(
    tx,
    `WITH made AS (
       INSERT INTO dualstore.api_keys
       SELECT k.* FROM unnest($1::text[]) AS t(text)
       CROSS JOIN LATERAL jsonb_populate_record(NULL::dualstore.api_keys, t.text::jsonb) k
       ON CONFLICT DO NOTHING RETURNING 1
     ) SELECT count(*) AS count FROM made`,
    [texts],
  )
  return rows[0]?.count ?? 0
}

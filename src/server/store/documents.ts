import { type Pool, type Queryable, query } from '../db/pool.js'
import { codeOf, UNIQUE_VIOLATION } from '../db/sqlstate.js'
import { bigints, jsonArray } from './arrays.js'
import { type Origin, originOf } from './origin.js'

/** How a document is written; migrations 0002 and 0006 say what each mode does. */
export type WriteMode = 'create' | 'put' | 'load' | 'replace' | 'reload' | 'delete'

/** One document to write, with its item as JSON text that carries id, created_at and updated_at. */
export interface Write {
  mode: WriteMode
  collection: string
  id: string
  /** The item; 'null' to delete. */
  text: string
  /** replace, reload and delete: only when the stored version is this one; null for any. */
  ifVersion: number | null
  /** The same for the very state that readMarked found, which a version does not tell: it begins at 1 again. */
  ifMark?: string
  /** Epoch milliseconds, the same as in the item. */
  createdAt: number
  updatedAt: number
  /** create: the client's Idempotency-Key and a fingerprint of what it asked for. */
  idempotency: { key: string; fingerprint: string } | null
  /** Whose write it is, for the change log: a principal's id. */
  author?: string
  /** Where it came from; none for the CLI. */
  address?: string | undefined
}

/** What became of one write. `text` is the stored item where it may differ from what was sent. */
export type WriteOutcome =
  | { outcome: 'created' | 'replaced'; version: number; text: string | null }
  | { outcome: 'deleted'; version: number }
  | { outcome: 'replayed'; text: string }
  | { outcome: 'key_reused' }
  | { outcome: 'exists'; version: number }
  | { outcome: 'missing' }
  | { outcome: 'version_mismatch'; version: number }

export interface WriteResult {
  /** In the order of the writes. */
  outcomes: WriteOutcome[]
  /** Log position of the statement's last change; null when nothing changed. */
  position: number | null
}

/** A stored document, its item as JSON text. */
export interface StoredDocument {
  id: string
  version: number
  text: string
}

/** A stored document with the mark of the state it is in: no other state of it, before or after, has the same. */
export interface MarkedDocument extends StoredDocument {
  mark: string
}

interface WriteRow {
  collection: string | null
  id: string
  outcome: WriteOutcome['outcome'] | 'head'
  version: number
  item: string | null
  seq: number | null
}

const keyOf = (collection: string, id: string) => `${collection}\u0000${id}`

/**
 * Writes many documents in one statement, each at most once, and tells each one's outcome. A document that was taken,
 * missing or of another version does not disturb the others; a row that PostgreSQL refuses fails the whole statement.
 */
export async function writeDocuments(on: Pool, writes: readonly Write[]): Promise<WriteResult> {
  const collection = newIn(writes)
  if (collection === undefined) return writeMixed(on, writes)
  const contested = contestedIn(on)
  if (!contested.has(collection)) {
    try {
      return await createDocuments(on, collection, writes)
    } catch (error) {
      if (codeOf(error) !== UNIQUE_VIOLATION) throw error
      contested.add(collection)
    }
  }
  const result = await writeMixed(on, writes)
  if (result.outcomes.every(({ outcome }) => outcome === 'created')) contested.delete(collection)
  return result
}

const contestedCollections = new WeakMap<Pool, Set<string>>()

/** Collections in which an id was taken when it was last tried: an import that was done before goes on so. */
function contestedIn(pool: Pool): Set<string> {
  const known = contestedCollections.get(pool) ?? new Set()
  contestedCollections.set(pool, known)
  return known
}

/** The collection of writes that are all of new documents without keys, by far the most frequent. */
function newIn(writes: readonly Write[]): string | undefined {
  const collection = writes[0]?.collection
  const plain = writes.every(
    (write) => write.mode === 'create' && write.idempotency === null && write.collection === collection,
  )
  return plain ? collection : undefined
}

/** Creates documents in the least time. @throws what PostgreSQL says when an id is taken; nothing is created then */
async function createDocuments(on: Pool, collection: string, writes: readonly Write[]): Promise<WriteResult> {
  const [row] = await query<{ head: number }>(
    on,
    'SELECT dualstore.create_documents($1, $2, $3, $4, $5) AS head',
    [
      collection,
      jsonArray(writes.map(({ text }) => text)),
      bigints(writes.map((write) => write.createdAt)),
      bigints(writes.map((write) => write.updatedAt)),
      originOf(writes),
    ],
    'create_documents',
  )
  const outcome: WriteOutcome = { outcome: 'created', version: 1, text: null }
  return { outcomes: writes.map(() => outcome), position: row?.head ?? null }
}

async function writeMixed(on: Queryable, writes: readonly Write[]): Promise<WriteResult> {
  const rows = await query<WriteRow>(
    on,
    'SELECT * FROM dualstore.write_documents($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)',
    [
      writes.map((write) => write.mode),
      writes.map((write) => write.collection),
      writes.map((write) => write.id),
      jsonArray(writes.map(({ text }) => text)),
      writes.map((write) => write.ifVersion),
      bigints(writes.map((write) => write.createdAt)),
      bigints(writes.map((write) => write.updatedAt)),
      writes.map((write) => write.idempotency?.key ?? null),
      writes.map((write) => write.idempotency?.fingerprint ?? null),
      writes.some((write) => write.ifMark !== undefined) ? writes.map((write) => write.ifMark ?? null) : null,
      originOf(writes),
    ],
    'write_documents',
  )
  const head = rows.pop()
  const byKey = new Map(rows.map((row) => [keyOf(row.collection ?? '', row.id), row]))
  const outcomes = writes.map((write) => outcomeOf(byKey.get(keyOf(write.collection, write.id))))
  await explainUntouched(on, writes, outcomes)
  return { outcomes: outcomes as WriteOutcome[], position: head?.seq ?? null }
}

function outcomeOf(row: WriteRow | undefined): WriteOutcome | undefined {
  switch (row?.outcome) {
    case 'created':
    case 'replaced':
      return { outcome: row.outcome, version: row.version, text: row.item }
    case 'deleted':
      return { outcome: 'deleted', version: row.version }
    case 'replayed':
      return { outcome: 'replayed', text: row.item ?? 'null' }
    case 'key_reused':
      return { outcome: 'key_reused' }
    default:
      return undefined
  }
}

/** Fills in why a document was left alone, from what is stored now. */
async function explainUntouched(
  on: Queryable,
  writes: readonly Write[],
  outcomes: (WriteOutcome | undefined)[],
): Promise<void> {
  const untouched = writes.filter((_, index) => outcomes[index] === undefined)
  if (untouched.length === 0) return
  const rows = await query<{ collection: string; id: string; version: number }>(
    on,
    `SELECT collection, id, version FROM dualstore.documents
     WHERE (collection, id) IN (SELECT * FROM unnest($1::text[], $2::text[]))`,
    [untouched.map((write) => write.collection), untouched.map((write) => write.id)],
  )
  const versions = new Map(rows.map((row) => [keyOf(row.collection, row.id), row.version]))
  writes.forEach((write, index) => {
    if (outcomes[index] !== undefined) return
    const version = versions.get(keyOf(write.collection, write.id))
    // A create that found its id taken stays a conflict although the document may be gone again by now.
    if (write.mode === 'create') outcomes[index] = { outcome: 'exists', version: version ?? 0 }
    // Whoever asked for no version found nothing to touch, although there may be a document again by now.
    else if (version === undefined || write.ifVersion === null) outcomes[index] = { outcome: 'missing' }
    else outcomes[index] = { outcome: 'version_mismatch', version }
  })
}

/** Those of these documents that exist, in no order. */
export function readDocuments(
  on: Queryable,
  collection: string,
  ids: readonly string[],
): Promise<StoredDocument[]> {
  return query<StoredDocument>(
    on,
    `SELECT id, version, item::text AS text FROM dualstore.documents
     WHERE collection = $1 AND id = ANY ($2::text[])`,
    [collection, ids],
    'read_documents',
  )
}

/** Those of these documents that exist. */
export async function readMarked(
  on: Queryable,
  collection: string,
  ids: readonly string[],
): Promise<Map<string, MarkedDocument>> {
  const rows = await query<MarkedDocument>(
    on,
    `SELECT id, version, item::text AS text, xmin::text AS mark FROM dualstore.documents
     WHERE collection = $1 AND id = ANY ($2::text[])`,
    [collection, ids],
    'read_marked',
  )
  return new Map(rows.map((row) => [row.id, row]))
}

/** Number of documents in a collection, counted. */
export async function countDocuments(on: Queryable, collection: string): Promise<number> {
  const rows = await query<{ count: number }>(
    on,
    'SELECT count(*) AS count FROM dualstore.documents WHERE collection = $1',
    [collection],
  )
  return rows[0]?.count ?? 0
}

/**
 * Deletes up to `limit` documents of a collection through the log; returns how many there were.
 * @param by Whose doing it is.
 */
export async function deleteSome(
  on: Queryable,
  collection: string,
  limit: number,
  by?: Origin,
): Promise<number> {
  const rows = await query<{ count: number }>(on, 'SELECT dualstore.delete_some($1, $2, $3) AS count', [
    collection,
    limit,
    by === undefined ? null : originOf([{ collection, id: '', ...by }]),
  ])
  return rows[0]?.count ?? 0
}

/** Forgets the idempotency keys of a collection that is no more. */
export async function forgetKeysOf(on: Queryable, collection: string): Promise<void> {
  await query(on, 'DELETE FROM dualstore.idempotency WHERE collection = $1', [collection])
}

/** Forgets up to 10,000 idempotency keys older than this many milliseconds; returns how many. */
export async function forgetIdempotencyKeys(on: Queryable, olderThanMs: number): Promise<number> {
  const rows = await query<{ count: number }>(
    on,
    `WITH gone AS (
       DELETE FROM dualstore.idempotency WHERE (collection, key) IN (
         SELECT collection, key FROM dualstore.idempotency
         WHERE created_at < now() - $1 * interval '1 millisecond' LIMIT 10000
       ) RETURNING 1
     ) SELECT count(*) AS count FROM gone`,
    [olderThanMs],
  )
  return rows[0]?.count ?? 0
}

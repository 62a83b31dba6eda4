import { createHash, hash } from 'node:crypto'
import { type Queryable, query } from '../db/pool.js'
import type { Item } from '../schemas/item.js'
import type { StoredDocument } from './documents.js'
import { jsonbText } from './jsonb-text.js'

/** Stored bytes, compressed as they are, of the documents in one chunk. */
const CHUNK_BYTES = 4 * 1024 * 1024

/** Some documents of a collection by ascending id, told by one hash. */
export interface Chunk {
  documents: number
  /** Id of the last one; undefined when there is none behind the place asked for. */
  last: string | undefined
  digest: string
  /** Where the log ended at that moment. */
  position: number
  /** True when no document stood behind it. */
  isLast: boolean
}

/** The chunk behind an id: up to `limit` documents, fewer when they are large. */
export async function readChunk(
  on: Queryable,
  collection: string,
  after: string,
  limit: number,
): Promise<Chunk> {
  const rows = await query<{
    documents: number
    last: string | null
    digest: string | null
    position: number
    found: number
  }>(
    on,
    `SELECT dualstore.log_head() AS position, count(*) AS documents, max(id) AS last, encode(sha256(string_agg(
       sha256(convert_to(id || E'\\n' || version || E'\\n' || item::text, 'UTF8')), '' ORDER BY id)), 'hex') AS digest,
       coalesce(max(found), 0) AS found
     FROM (
       SELECT *, sum(size) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - size AS before, count(*) OVER () AS found
       FROM (SELECT id, version, item, pg_column_size(item) AS size FROM dualstore.documents
             WHERE collection = $1 AND id > $2 ORDER BY id LIMIT $3) d
     ) d WHERE before < $4`,
    [collection, after, limit, CHUNK_BYTES],
    'read_chunk',
  )
  const { documents = 0, last = null, digest = null, position = 0, found = 0 } = rows[0] ?? {}
  return {
    documents,
    last: last ?? undefined,
    digest: digest ?? createDigest().end(),
    position,
    isLast: documents === found && found < limit,
  }
}

/** The same without looking at the documents themselves. */
export async function skipChunk(
  on: Queryable,
  collection: string,
  after: string,
  limit: number,
): Promise<Pick<Chunk, 'documents' | 'last'>> {
  const rows = await query<{ documents: number; last: string | null }>(
    on,
    `SELECT count(*) AS documents, max(id) AS last FROM (
       SELECT id FROM dualstore.documents WHERE collection = $1 AND id > $2 ORDER BY id LIMIT $3
     ) d`,
    [collection, after, limit],
  )
  return { documents: rows[0]?.documents ?? 0, last: rows[0]?.last ?? undefined }
}

/** Takes documents by ascending id and gives the hash that readChunk gives for the same ones. */
export function createDigest() {
  const all = createHash('sha256')
  return {
    add(id: string, version: number, item: Item): void {
      // One call makes no object: memory outside the heap would otherwise wait for the collector.
      all.update(hash('sha256', `${id}\n${version}\n${jsonbText(item)}`, 'hex'), 'hex')
    },
    end: (): string => all.digest('hex'),
  }
}

/** Documents exactly as they were at a position of the log: every change up to it is in them, and none behind it. */
export interface DocumentsAt {
  position: number
  /** By id; who is missing did not exist. */
  documents: Map<string, StoredDocument>
  /** The log begins behind this position. */
  floor: number
}

/** These documents and the position they are at, in one snapshot. */
export async function readDocumentsAt(
  on: Queryable,
  collection: string,
  ids: readonly string[],
): Promise<DocumentsAt> {
  const rows = await query<StoredDocument & { id: string | null; position: number; floor: number }>(
    on,
    `WITH h AS MATERIALIZED (
       SELECT floor, dualstore.log_head() AS position FROM dualstore.logs WHERE log_id = 1
     ) SELECT h.position, h.floor, d.id, d.version, d.item::text AS text
     FROM h LEFT JOIN dualstore.documents d ON d.collection = $1 AND d.id = ANY ($2)`,
    [collection, ids],
    'read_documents_at',
  )
  const { position = 0, floor = 0 } = rows[0] ?? {}
  const found = rows.filter((row) => row.id !== null)
  return { position, floor, documents: new Map(found.map((row) => [row.id, row])) }
}

/** Those of these ids that a document has. */
export async function existingAmong(
  on: Queryable,
  collection: string,
  ids: readonly string[],
): Promise<Set<string>> {
  const rows = await query<{ id: string }>(
    on,
    'SELECT id FROM dualstore.documents WHERE collection = $1 AND id = ANY ($2)',
    [collection, ids],
  )
  return new Set(rows.map(({ id }) => id))
}

/** Those of these documents that the log has changed behind `after` and up to `upTo`. */
export async function changedBetween(
  on: Queryable,
  collection: string,
  ids: readonly string[],
  { after, upTo }: { after: number; upTo: number },
): Promise<Set<string>> {
  if (after >= upTo) return new Set()
  const rows = await query<{ id: string }>(
    on,
    `SELECT DISTINCT id FROM dualstore.changes
     WHERE seq > $3 AND seq <= $4 AND collection = $1 AND id = ANY ($2)`,
    [collection, ids, after, upTo],
  )
  return new Set(rows.map(({ id }) => id))
}

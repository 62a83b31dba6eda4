import { type Queryable, query } from '../db/pool.js'

/** What can be done to keys and collections. */
export type AuditAction =
  | 'key.create'
  | 'key.rotate'
  | 'key.revoke'
  | 'key.prune'
  | 'token.create'
  | 'collection.create'
  | 'collection.replace'
  | 'collection.drop'

/** One thing that was done. */
export interface AuditEntry {
  /** The principal's id. */
  actor: string
  /** The key it stood or fell with. */
  keyId: string | undefined
  /** The client's address; undefined for the command line on its own stores. */
  address: string | undefined
  action: AuditAction
  /** The key's id or the collection's name. */
  target: string | null
  /** What else is worth knowing: never a secret, never a document. */
  details: object
}

export interface StoredAuditEntry extends Omit<AuditEntry, 'keyId' | 'address' | 'details'> {
  seq: number
  at: Date
  keyId: string | null
  address: string | null
  details: Record<string, unknown>
}

export interface AuditQuery {
  /** Only entries from this moment on, in epoch milliseconds. */
  since: number | undefined
  /** Only what this key did, or what was done to it. */
  key: string | undefined
  /** Only entries older than the one with this number. */
  before: number | undefined
  limit: number
}

/** Adds an entry; with the transaction of what it tells, so that neither stands without the other. */
export async function appendAudit(tx: Queryable, entry: AuditEntry): Promise<void> {
  await query(
    tx,
    `INSERT INTO dualstore.audit (actor, key_id, address, action, target, details) VALUES ($1, $2, $3, $4, $5, $6)`,
    [
      entry.actor,
      entry.keyId ?? null,
      entry.address ?? null,
      entry.action,
      entry.target,
      JSON.stringify(entry.details),
    ],
  )
}

/** Entries, the newest first. */
export async function readAudit(on: Queryable, asked: AuditQuery): Promise<StoredAuditEntry[]> {
  return query<StoredAuditEntry>(
    on,
    `SELECT seq, at, actor, key_id AS "keyId", address, action, target, details FROM dualstore.audit
     WHERE ($1::bigint IS NULL OR at >= to_timestamp($1::bigint / 1000.0))
       AND ($2::text IS NULL OR key_id = $2 OR (target = $2 AND action LIKE 'key.%'))
       AND ($3::bigint IS NULL OR seq < $3)
     ORDER BY seq DESC LIMIT $4`,
    [asked.since ?? null, asked.key ?? null, asked.before ?? null, asked.limit],
  )
}

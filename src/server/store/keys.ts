import { type Queryable, query } from '../db/pool.js'
import type { Role } from '../schemas/key-defaults.js'

/** What there is to check about a key, and the version of all keys at which it was read. Times in epoch milliseconds. */
export interface KeyRow {
  version: number
  id: string
  /** False when there is no such key: the rest is then made up. */
  known: boolean
  role: Role
  readScopes: string[]
  writeScopes: string[]
  rowFilter: unknown
  hash: Buffer
  previousHash: Buffer | null
  previousExpiresAt: number | null
  expiresAt: number | null
  revokedAt: number | null
}

/** A key as it is shown: without anything of its secret. */
export interface StoredKey {
  id: string
  name: string
  role: Role
  readScopes: string[]
  writeScopes: string[]
  rowFilter: Record<string, unknown> | null
  previousExpiresAt: Date | null
  expiresAt: Date | null
  createdAt: Date
  createdBy: string
  lastUsedAt: Date | null
  revokedAt: Date | null
}

export interface NewKey {
  id: string
  name: string
  hash: Buffer
  role: Role
  readScopes: readonly string[]
  writeScopes: readonly string[]
  rowFilter: object | null
  /** Epoch milliseconds. */
  expiresAt: number | null
  createdBy: string
}

const STORED = `id, name, role, read_scopes AS "readScopes", write_scopes AS "writeScopes", row_filter AS "rowFilter",
  previous_expires_at AS "previousExpiresAt", expires_at AS "expiresAt", created_at AS "createdAt",
  created_by AS "createdBy", last_used_at AS "lastUsedAt", revoked_at AS "revokedAt"`

const ms = (column: string) => `(extract(epoch FROM ${column}) * 1000)::bigint`
const at = (place: string) => `to_timestamp(${place}::bigint / 1000.0)`

/** How often keys have changed; who reads n sees every change up to n. */
export async function readKeysVersion(on: Queryable): Promise<number> {
  const rows = await query<{ version: number }>(
    on,
    'SELECT version FROM dualstore.api_keys_version',
    [],
    'read_keys_version',
  )
  return rows[0]?.version ?? 0
}

/**
 * What there is to check about these keys, one row for each, whether it exists or not, and as much of it: how long an
 * answer takes must not tell whether an id is known.
 */
export async function readKeyRows(on: Queryable, ids: readonly string[]): Promise<KeyRow[]> {
  return query<KeyRow>(
    on,
    `SELECT v.version, asked.id, k.id IS NOT NULL AS known, coalesce(k.role, 'reader') AS role,
       coalesce(k.read_scopes, '{*}') AS "readScopes", coalesce(k.write_scopes, '{*}') AS "writeScopes",
       k.row_filter AS "rowFilter", coalesce(k.hash, sha256('')) AS hash, k.previous_hash AS "previousHash",
       ${ms('k.previous_expires_at')} AS "previousExpiresAt", ${ms('k.expires_at')} AS "expiresAt",
       ${ms('k.revoked_at')} AS "revokedAt"
     FROM dualstore.api_keys_version v CROSS JOIN unnest($1::text[]) AS asked(id)
     LEFT JOIN dualstore.api_keys k ON k.id = asked.id`,
    [ids],
    'read_key_rows',
  )
}

/** Every key, the oldest first. */
export async function readKeys(on: Queryable): Promise<StoredKey[]> {
  return query<StoredKey>(on, `SELECT ${STORED} FROM dualstore.api_keys ORDER BY created_at, id`)
}

/** One key, locked for the rest of the transaction; undefined when there is none. */
export async function lockKey(tx: Queryable, id: string): Promise<StoredKey | undefined> {
  const rows = await query<StoredKey>(
    tx,
    `SELECT ${STORED} FROM dualstore.api_keys WHERE id = $1 FOR UPDATE`,
    [id],
  )
  return rows[0]
}

/** One key; undefined when there is none. */
export async function readKey(on: Queryable, id: string): Promise<StoredKey | undefined> {
  const rows = await query<StoredKey>(on, `SELECT ${STORED} FROM dualstore.api_keys WHERE id = $1`, [id])
  return rows[0]
}

/** True when at least one key could be used now. */
export async function anyActiveKey(on: Queryable): Promise<boolean> {
  const rows = await query<{ found: boolean }>(
    on,
    `SELECT EXISTS (
       SELECT FROM dualstore.api_keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
     ) AS found`,
  )
  return rows[0]?.found ?? false
}

export async function insertKey(tx: Queryable, key: NewKey): Promise<StoredKey> {
  const rows = await query<StoredKey>(
    tx,
    `INSERT INTO dualstore.api_keys
       (id, name, hash, role, read_scopes, write_scopes, row_filter, expires_at, created_by)
     VALUES ($1, $2, $3, $4, $5, $6, $7, ${at('$8')}, $9) RETURNING ${STORED}`,
    [
      key.id,
      key.name,
      key.hash,
      key.role,
      key.readScopes,
      key.writeScopes,
      key.rowFilter === null ? null : JSON.stringify(key.rowFilter),
      key.expiresAt,
      key.createdBy,
    ],
  )
  return rows[0] as StoredKey
}

/** Gives a key another secret; the present one stays good for `overlapMs`. */
export async function replaceSecret(
  tx: Queryable,
  id: string,
  hash: Buffer,
  overlapMs: number,
): Promise<StoredKey> {
  const rows = await query<StoredKey>(
    tx,
    `UPDATE dualstore.api_keys SET hash = $2,
       previous_hash = CASE WHEN $3::float8 > 0 THEN hash END,
       previous_expires_at = CASE WHEN $3::float8 > 0 THEN now() + $3::float8 * interval '1 millisecond' END
     WHERE id = $1 RETURNING ${STORED}`,
    [id, hash, overlapMs],
  )
  return rows[0] as StoredKey
}

export async function revokeKey(tx: Queryable, id: string): Promise<StoredKey> {
  const rows = await query<StoredKey>(
    tx,
    `UPDATE dualstore.api_keys SET revoked_at = now() WHERE id = $1 RETURNING ${STORED}`,
    [id],
  )
  return rows[0] as StoredKey
}

/** The keys that were revoked or expired at least `ageMs` ago, locked for the rest of the transaction. */
export async function lockEndedKeys(tx: Queryable, ageMs: number): Promise<StoredKey[]> {
  return query<StoredKey>(
    tx,
    `SELECT ${STORED} FROM dualstore.api_keys
     WHERE least(revoked_at, expires_at) <= now() - $1 * interval '1 millisecond' ORDER BY id FOR UPDATE`,
    [ageMs],
  )
}

export async function deleteKeys(tx: Queryable, ids: readonly string[]): Promise<void> {
  await query(tx, 'DELETE FROM dualstore.api_keys WHERE id = ANY ($1)', [ids])
}

/** Notes when keys were last used; times in epoch milliseconds. */
export async function noteKeyUse(on: Queryable, uses: ReadonlyMap<string, number>): Promise<void> {
  await query(
    on,
    `UPDATE dualstore.api_keys k SET last_used_at = greatest(k.last_used_at, ${at('u.used')})
     FROM unnest($1::text[], $2::bigint[]) AS u(id, used) WHERE k.id = u.id`,
    [[...uses.keys()], [...uses.values()]],
  )
}

import { timingSafeEqual } from 'node:crypto'
import { everything } from '../filter/ast.js'
import { parseFilter } from '../filter/parse.js'
import type { KeyRow } from '../store/keys.js'
import type { Principal } from './principal.js'

/** A key as an instance checks and remembers it. */
export interface KnownKey {
  id: string
  /** The version of all keys at which it was read. */
  version: number
  /** False when there is none of this id: no secret is right then. */
  known: boolean
  revoked: boolean
  /** Epoch milliseconds; undefined: never. */
  expiresAt: number | undefined
  /** Whom this secret proves; undefined when it is wrong. Takes as long whether there is such a key or not. */
  prove(hash: Buffer, now: number): Principal | undefined
}

export function knownKey(row: KeyRow): KnownKey {
  const { id, version, known, hash } = row
  const previousHash = row.previousHash ?? hash
  const previousUntil = row.previousExpiresAt ?? 0
  const expiresAt = row.expiresAt ?? undefined
  let principals: { current: Principal; previous: Principal } | undefined
  return {
    id,
    version,
    known,
    revoked: row.revokedAt !== null,
    expiresAt,
    prove(given, now) {
      const isCurrent = timingSafeEqual(given, hash)
      const isPrevious = timingSafeEqual(given, previousHash) && now < previousUntil
      if (!known || !(isCurrent || isPrevious)) return undefined
      if (principals === undefined) {
        principals = principalsOf(row)
        secrets.set(principals.current, hash)
        secrets.set(principals.previous, previousHash)
      }
      return isCurrent ? principals.current : principals.previous
    },
  }
}

/** With which secret a principal was proven. */
const secrets = new WeakMap<Principal, Buffer>()

/** True while a principal may go on with what it has begun: its key is active, and its secret is still one of the key's. */
export function stands(principal: Principal, key: KnownKey | undefined, now: number): boolean {
  const hash = secrets.get(principal)
  return isActive(key, now) && (hash === undefined || key?.prove(hash, now) !== undefined)
}

/** True when a key can be used now. */
export function isActive(key: KnownKey | undefined, now: number): boolean {
  return key?.known === true && !key.revoked && (key.expiresAt === undefined || now < key.expiresAt)
}

/** Whom the present secret stands for, and the one before it, which ends earlier. */
function principalsOf(row: KeyRow): { current: Principal; previous: Principal } {
  const expiresAt = row.expiresAt ?? undefined
  const current: Principal = {
    kind: 'key',
    id: `key:${row.id}`,
    role: row.role,
    scopes: { read: row.readScopes, write: row.writeScopes },
    rows: row.rowFilter === null ? everything : parseFilter(row.rowFilter, 'rows'),
    keyId: row.id,
    expiresAt,
  }
  const previousUntil = Math.min(row.previousExpiresAt ?? 0, expiresAt ?? Number.POSITIVE_INFINITY)
  return { current, previous: { ...current, expiresAt: previousUntil } }
}

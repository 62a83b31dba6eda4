import type { Pool } from '../db/pool.js'
import { transaction } from '../db/transaction.js'
import { DualstoreError } from '../errors.js'
import type { KeyAnswer, KeyInput, NewKeyAnswer } from '../schemas/key.js'
import {
  anyActiveKey,
  deleteKeys,
  insertKey,
  lockEndedKeys,
  lockKey,
  readKey,
  readKeys,
  replaceSecret,
  revokeKey,
  type StoredKey,
} from '../store/keys.js'
import { recordAudit } from './audit.js'
import { type Authenticator, invalidCredential, type Use } from './authenticator.js'
import type { KeyCache } from './key-cache.js'
import { formatKey, hashSecret, looksLikeKey, newKeyId, newSecret, parseKey } from './key-format.js'
import { expiryOf, isWithin, rightsOfNewKey } from './key-rights.js'
import type { KeyUsage } from './key-usage.js'
import { isActive, stands } from './known-key.js'
import type { Access, Principal } from './principal.js'

export interface KeyServiceOptions {
  pool: Pool
  cache: KeyCache
  usage: KeyUsage
}

export type KeyService = ReturnType<typeof createKeyService>

/** Makes, checks and ends API keys. */
export function createKeyService({ pool, cache, usage }: KeyServiceOptions) {
  /** What was changed here holds here at once; other instances are told by PostgreSQL. */
  const changed = () => cache.check().catch(() => {})

  const authenticator: Authenticator = {
    accepts: looksLikeKey,
    async authenticate(text, use) {
      const parts = parseKey(text)
      if (parts === undefined) throw invalidCredential()
      const hash = hashSecret(parts.secret)
      await cache.confirm(use)
      const now = Date.now()
      let key = cache.find(parts.id)
      let principal = key?.prove(hash, now)
      if (key === undefined || principal === undefined) {
        // Made or rotated by another instance, or wrong: either way PostgreSQL is asked, so that how long the answer
        // takes tells nothing about what is remembered here.
        key = await cache.read(parts.id)
        principal = key.prove(hash, now)
        if (principal === undefined) throw invalidCredential()
        cache.remember(key)
      }
      if (!isActive(key, now))
        throw invalidCredential(`this key ${key.revoked ? 'was revoked' : 'has expired'}`)
      usage.note(key.id)
      return principal
    },
  }

  /** The key, if the caller may manage it: what goes beyond their own rights is none of theirs. */
  const requireOwn = ({ principal }: Access, id: string, key: StoredKey | undefined): StoredKey => {
    if (key !== undefined && isWithin(principal, key)) return key
    throw new DualstoreError('NOT_FOUND', `there is no key "${id}"`, { error: 'Key not found' })
  }

  return {
    authenticator,

    /**
     * Whether a key can be used now, from what is remembered: false for one that this instance does not know, which
     * `ensure` tells apart.
     */
    isActive: (keyId: string): boolean => isActive(cache.find(keyId), Date.now()),

    /** Whether somebody who was proven before still is: false also once the secret was rotated away. */
    stands: (principal: Principal): boolean =>
      principal.keyId === undefined || stands(principal, cache.find(principal.keyId), Date.now()),

    /** The same, asked of PostgreSQL where this instance does not remember the key. @throws STORE_UNAVAILABLE */
    async confirm(principal: Principal): Promise<boolean> {
      const { keyId } = principal
      if (keyId === undefined) return true
      await cache.confirm('read')
      return stands(principal, cache.find(keyId) ?? (await cache.read(keyId)), Date.now())
    },

    /** The same as isActive, up to date and after having asked PostgreSQL for a key that is not known. @throws STORE_UNAVAILABLE */
    async ensure(keyId: string, use: Use): Promise<boolean> {
      await cache.confirm(use)
      let key = cache.find(keyId)
      if (key === undefined) {
        key = await cache.read(keyId)
        if (key.known) cache.remember(key)
      }
      return isActive(key, Date.now())
    },

    /** Calls back whenever this instance has learned that keys have changed; returns the way to stop that. */
    onChange: (listener: () => void): (() => void) => cache.onChange(listener),

    /** True when at least one key could be used now, whoever made it. */
    anyActive: (): Promise<boolean> => anyActiveKey(pool),

    /** Makes a key and tells it this once. @throws INVALID_REQUEST, or FORBIDDEN when it goes beyond the maker's rights */
    async create(access: Access, input: KeyInput): Promise<NewKeyAnswer> {
      const { principal } = access
      requireLasting(access, 'make keys')
      const rights = rightsOfNewKey(principal, input)
      const expiresAt = expiryOf(input, Date.now())
      const parts = { id: newKeyId(), secret: newSecret() }
      const { name } = input
      const stored = await transaction(pool, async (tx) => {
        const key = { id: parts.id, name, hash: hashSecret(parts.secret), ...rights, expiresAt }
        const made = await insertKey(tx, { ...key, createdBy: principal.id })
        const { role, scopes, rows, expires_at } = toAnswer(made)
        const details = { name, role, scopes, rows, expires_at }
        await recordAudit(tx, access, { action: 'key.create', target: parts.id, details })
        return made
      })
      await changed()
      return { ...toAnswer(stored), key: formatKey(parts) }
    },

    /** The keys that the caller may manage, the oldest first. */
    async list({ principal }: Access): Promise<KeyAnswer[]> {
      return (await readKeys(pool)).filter((key) => isWithin(principal, key)).map(toAnswer)
    },

    /** @throws NOT_FOUND */
    async show(access: Access, id: string): Promise<KeyAnswer> {
      return toAnswer(requireOwn(access, id, await readKey(pool, id)))
    },

    /**
     * Gives a key another secret and tells it this once.
     * @param overlapMs How long the present secret stays good; one from before that ends at once.
     * @throws NOT_FOUND, or CONFLICT when the key has ended
     */
    async rotate(access: Access, id: string, overlapMs: number): Promise<NewKeyAnswer> {
      requireLasting(access, 'rotate keys')
      const secret = newSecret()
      const stored = await transaction(pool, async (tx) => {
        const key = requireOwn(access, id, await lockKey(tx, id))
        const { status } = toAnswer(key)
        if (status !== 'active') throw new DualstoreError('CONFLICT', `this key is ${status}; make a new one`)
        const details = { overlap_seconds: overlapMs / 1000 }
        await recordAudit(tx, access, { action: 'key.rotate', target: id, details })
        return replaceSecret(tx, id, hashSecret(secret), overlapMs)
      })
      await changed()
      return { ...toAnswer(stored), key: formatKey({ id, secret }) }
    },

    /** Ends a key now and for good, on every instance within a second; again is the same as once. @throws NOT_FOUND */
    async revoke(access: Access, id: string): Promise<KeyAnswer> {
      const stored = await transaction(pool, async (tx) => {
        const key = requireOwn(access, id, await lockKey(tx, id))
        if (key.revokedAt !== null) return key
        await recordAudit(tx, access, { action: 'key.revoke', target: id, details: { name: key.name } })
        return revokeKey(tx, id)
      })
      await changed()
      return toAnswer(stored)
    },

    /**
     * Removes the keys that were revoked or expired at least `ageMs` ago; what they did stays in the audit.
     * @returns The ids of the keys removed.
     */
    async prune(access: Access, ageMs: number): Promise<string[]> {
      const ids = await transaction(pool, async (tx) => {
        const ended = await lockEndedKeys(tx, ageMs)
        const own = ended.filter((key) => isWithin(access.principal, key)).map((key) => key.id)
        if (own.length === 0) return []
        await deleteKeys(tx, own)
        const details = { ids: own, older_than_seconds: ageMs / 1000 }
        await recordAudit(tx, access, { action: 'key.prune', target: null, details })
        return own
      })
      await changed()
      return ids
    },
  }
}

/** A token ends soon; what it made would not. */
function requireLasting({ principal }: Access, what: string): void {
  if (principal.kind !== 'token' || principal.keyId === undefined) return
  throw new DualstoreError('FORBIDDEN', `a token cannot ${what}: send the key it was made with`)
}

function toAnswer(key: StoredKey): KeyAnswer {
  const now = Date.now()
  const expired = key.expiresAt !== null && key.expiresAt.getTime() <= now
  const previous = key.previousExpiresAt
  return {
    id: key.id,
    name: key.name,
    role: key.role,
    scopes: { read: key.readScopes, write: key.writeScopes },
    rows: key.rowFilter,
    status: key.revokedAt !== null ? 'revoked' : expired ? 'expired' : 'active',
    created_at: key.createdAt.toISOString(),
    created_by: key.createdBy,
    expires_at: key.expiresAt?.toISOString() ?? null,
    last_used_at: key.lastUsedAt?.toISOString() ?? null,
    revoked_at: key.revokedAt?.toISOString() ?? null,
    previous_secret_until: previous !== null && previous.getTime() > now ? previous.toISOString() : null,
  }
}

import { DualstoreError, invalid } from '../errors.js'
import { both } from '../filter/ast.js'
import { parseFilter } from '../filter/parse.js'
import { MAX_STREAM_TOKEN_SECONDS, type TokenRequest } from '../schemas/token.js'
import { type CollectionScopes, covers, hasRole, type Principal } from './principal.js'

/** What of a principal's rights a token is to have. */
export type Rights = Pick<Principal, 'role' | 'scopes' | 'rows'>

/**
 * The rights that are asked for, which are never more than the principal's own.
 * @throws FORBIDDEN for more than it has, INVALID_REQUEST or INVALID_FILTER; each names the field.
 */
export function rightsOfToken(principal: Principal, wish: TokenRequest): Rights {
  const rows =
    wish.filter === undefined ? principal.rows : both(principal.rows, parseFilter(wish.filter, 'body.filter'))
  if (wish.for === 'stream') {
    const collection = collectionOfStream(wish)
    requireCovered(principal, 'read', 'body.collection', [collection])
    return { role: 'reader', scopes: { read: [collection], write: [] }, rows }
  }
  if (wish.collection !== undefined)
    throw invalid('body.collection', 'belongs to "for": "stream"; use collections')
  return { role: roleOf(principal, wish), scopes: scopesOf(principal, wish), rows }
}

function collectionOfStream({
  collection,
  role,
  read,
  write,
  collections,
  expires_in,
}: TokenRequest): string {
  if (collection === undefined) throw invalid('body.collection', 'is required with "for": "stream"')
  for (const [field, value] of Object.entries({ role, read, write, collections })) {
    if (value !== undefined) throw invalid(`body.${field}`, 'is not allowed with "for": "stream"')
  }
  if ((expires_in ?? 0) > MAX_STREAM_TOKEN_SECONDS) {
    throw invalid('body.expires_in', `must be at most ${MAX_STREAM_TOKEN_SECONDS} with "for": "stream"`)
  }
  return collection
}

function roleOf(principal: Principal, { role = principal.role }: TokenRequest): Principal['role'] {
  if (!hasRole(principal, role)) throw tooMuch('body.role', `must be at most ${principal.role}`)
  return role
}

function scopesOf(principal: Principal, { read, write, collections }: TokenRequest): CollectionScopes {
  if (collections === undefined) {
    requireCovered(principal, 'read', 'body.read', read ?? [])
    requireCovered(principal, 'write', 'body.write', write ?? [])
    return { read: read ?? principal.scopes.read, write: write ?? principal.scopes.write }
  }
  if (read !== undefined || write !== undefined) {
    throw invalid('body.collections', 'stands instead of read and write, not beside them')
  }
  const readable = collections.filter((pattern) => covers(principal, 'read', pattern))
  const writable = collections.filter((pattern) => covers(principal, 'write', pattern))
  const neither = collections.findIndex((name) => !readable.includes(name) && !writable.includes(name))
  if (neither >= 0) throw tooMuch(`body.collections[${neither}]`, NOT_COVERED)
  return { read: readable, write: writable }
}

const NOT_COVERED = 'is not covered by what the credential may do itself'

// A pattern covers another one that it matches as a text: its * takes the other's * along with whatever that stands for.
function requireCovered(
  principal: Principal,
  action: keyof CollectionScopes,
  field: string,
  patterns: readonly string[],
): void {
  const beyond = patterns.findIndex((pattern) => !covers(principal, action, pattern))
  if (beyond >= 0) throw tooMuch(patterns.length === 1 ? field : `${field}[${beyond}]`, NOT_COVERED)
}

function tooMuch(field: string, message: string): DualstoreError {
  return new DualstoreError('FORBIDDEN', `${field} ${message}`, { details: [{ field, message }] })
}

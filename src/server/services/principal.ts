import { everything, type Filter } from '../filter/ast.js'
import { type Role, roles } from '../schemas/key.js'

export { type Role, roles } from '../schemas/key.js'

/** Names of collections, or patterns in which `*` stands for any characters. */
export interface CollectionScopes {
  read: readonly string[]
  write: readonly string[]
}

/** Who calls, as far as rights go. Made once for a credential and shared by its requests; never changed. */
export interface Principal {
  /** How it proved who it is; `everyone` when authentication is off, `local` for the CLI on its own stores. */
  kind: 'everyone' | 'local' | 'legacy' | 'key' | 'token'
  /** Stands in the log of changes and in the audit: `local`, `legacy`, `key:<id>`, `token:<issuer>:<subject>`. */
  id: string
  role: Role
  scopes: CollectionScopes
  /** The documents it may see and write, of any collection; `everything` for no bound. */
  rows: Filter
  /** The key it stands or falls with: a token is worth nothing once its key is revoked. */
  keyId: string | undefined
  /** Epoch milliseconds; undefined: never. */
  expiresAt: number | undefined
}

/** One call of a service: by whom, and from where. */
export interface Access {
  principal: Principal
  /** The client's address; undefined for the CLI. */
  address: string | undefined
}

/** The rights of whoever is not restricted. */
export function unrestricted(kind: 'everyone' | 'local' | 'legacy'): Principal {
  const scopes = { read: ['*'], write: ['*'] }
  return { kind, id: kind, role: 'admin', scopes, rows: everything, keyId: undefined, expiresAt: undefined }
}

/** The CLI on local stores: whoever holds the database's credentials may do everything with it. */
export const localAccess: Access = { principal: unrestricted('local'), address: undefined }

/** True when the role may do what `needed` may. */
export function hasRole(principal: Principal, needed: Role): boolean {
  return roles.indexOf(principal.role) >= roles.indexOf(needed)
}

/** True when there are documents that it must not see. */
export function isRestricted({ rows }: Pick<Principal, 'rows'>): boolean {
  return rows.op !== 'and' || rows.of.length > 0
}

/** True when the scopes cover a collection: an admin's too, because scopes only ever narrow. */
export function covers(principal: Principal, action: keyof CollectionScopes, collection: string): boolean {
  return principal.scopes[action].some((pattern) => matchesPattern(pattern, collection))
}

/** `*` stands for any characters; linear in both, unlike a regular expression made of the pattern. */
function matchesPattern(pattern: string, name: string): boolean {
  if (pattern === '*') return true
  const [head = '', ...rest] = pattern.split('*')
  if (rest.length === 0) return name === head
  if (!name.startsWith(head)) return false
  const tail = rest.pop() ?? ''
  let at = head.length
  for (const part of rest) {
    const found = name.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return name.length - tail.length >= at && name.endsWith(tail)
}

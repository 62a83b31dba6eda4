import { DualstoreError } from '../errors.js'
import type { Use } from './authenticator.js'
import { type CollectionScopes, covers, hasRole, type Principal, type Role } from './principal.js'

/** What a route needs: nothing at all, or a role and, where the path names a collection, a scope that covers it. */
export type Right = 'public' | { role: Role; collection?: keyof CollectionScopes }

const read = { role: 'reader' } as const
const readsDocuments = { role: 'reader', collection: 'read' } as const
const writesDocuments = { role: 'writer', collection: 'write' } as const
const manages = { role: 'admin' } as const
const changesCollection = { role: 'admin', collection: 'write' } as const

/**
 * Every route by its operationId, and what it needs. A route without an entry keeps the application from being built,
 * and test/server/rights-matrix.test.ts walks the table with every kind of key. What is not in the path is for the
 * services to check: the collections a list or a stream is about, the name of a collection that is to be made.
 */
export const rights = {
  live: 'public',
  // Answered by the CORS plugin, which comes first: browsers send no key with a preflight.
  preflight: 'public',
  index: read,
  health: read,
  ready: read,
  docs: read,
  debugData: manages,

  list: readsDocuments,
  get: readsDocuments,
  export: readsDocuments,
  changes: readsDocuments,
  streamCollection: readsDocuments,
  stream: read,
  create: writesDocuments,
  put: writesDocuments,
  patch: writesDocuments,
  delete: writesDocuments,
  batch: writesDocuments,
  import: writesDocuments,

  listCollections: read,
  getCollection: read,
  createCollection: manages,
  replaceCollection: changesCollection,
  changeCollection: changesCollection,
  dropCollection: changesCollection,

  createKey: manages,
  listKeys: manages,
  getKey: manages,
  rotateKey: manages,
  revokeKey: manages,
  pruneKeys: manages,
  listAudit: manages,
  auditDocuments: manages,

  createToken: read,
} as const satisfies Record<string, Right>

/** The entry of a route; undefined when it has none. */
export function rightOf(operationId: string): Right | undefined {
  return Object.hasOwn(rights, operationId) ? rights[operationId as keyof typeof rights] : undefined
}

/** What a request on a route is for. */
export function useOf(right: Right): Use {
  return right === 'public' || right.role === 'reader' ? 'read' : 'write'
}

/**
 * @param collection The one that the path names.
 * @throws FORBIDDEN that names the role or scope that is missing
 */
export function requireRight(principal: Principal, right: Right, collection: string | undefined): void {
  if (right === 'public') return
  if (!hasRole(principal, right.role)) {
    throw new DualstoreError(
      'FORBIDDEN',
      `this needs the role "${right.role}"; what was sent has "${principal.role}"`,
    )
  }
  if (right.collection !== undefined) requireScope(principal, right.collection, collection ?? '')
}

/** @throws FORBIDDEN when no scope covers the collection, whether there is such a collection or not */
export function requireScope(principal: Principal, action: keyof CollectionScopes, collection: string): void {
  if (covers(principal, action, collection)) return
  throw new DualstoreError('FORBIDDEN', `this needs a ${action} scope that covers "${collection}"`)
}

import { type AuthoredChange, readAuthors } from '../changes/authors.js'
import { formatPosition } from '../changes/position.js'
import type { Pool } from '../db/pool.js'
import { DualstoreError, invalid } from '../errors.js'
import type { DocumentAuditEntry, DocumentAuditQuery } from '../schemas/document-audit.js'
import { type Access, covers, hasRole, isRestricted, type Principal } from './principal.js'
import { requireScope } from './rights.js'
import { requireStorable } from './storable.js'
import { parseTime } from './time.js'

/** One page of who changed documents, the newest change first. */
export interface DocumentAuditPage {
  /** Fewer than asked for, or none, also before the end. */
  entries: DocumentAuditEntry[]
  /** null at the end. */
  nextCursor: string | null
}

export type DocumentAuditService = ReturnType<typeof createDocumentAuditService>

/** Who changed which document, when and from where, as long as the change log is kept. */
export function createDocumentAuditService({ pool, epoch }: { pool: Pool; epoch: string }) {
  const toEntry = ({ seq, at, ...change }: AuthoredChange): DocumentAuditEntry => ({
    at: new Date(at).toISOString(),
    ...change,
    position: formatPosition({ epoch, seq }),
  })

  return {
    /** @throws INVALID_REQUEST, INVALID_CURSOR; FORBIDDEN to whom some of what it would tell is closed */
    async listDocumentChanges({ principal }: Access, query: DocumentAuditQuery): Promise<DocumentAuditPage> {
      requireOpen(principal, query.collection)
      if (query.key !== undefined && query.author !== undefined) {
        throw invalid('query.author', 'cannot be used together with key: send one of them')
      }
      for (const field of ['key', 'author', 'collection', 'id'] as const) {
        requireStorable(query[field] ?? '', `query.${field}`)
      }
      const page = await readAuthors(pool, {
        before: query.cursor === undefined ? undefined : positionOf(query.cursor),
        since: query.since === undefined ? undefined : timeOf(query.since),
        author: query.key === undefined ? query.author : `key:${query.key}`,
        collection: query.collection,
        id: query.id,
        limit: query.limit,
      })
      return {
        entries: page.changes.map(toEntry),
        nextCursor: page.before === undefined ? null : String(page.before),
      }
    },
  }
}

function requireOpen(principal: Principal, collection: string | undefined): void {
  if (!hasRole(principal, 'admin')) throw new DualstoreError('FORBIDDEN', 'the audit is for admins')
  if (isRestricted(principal)) {
    throw new DualstoreError(
      'FORBIDDEN',
      'the audit tells of all documents, and your key is restricted to some',
    )
  }
  if (collection !== undefined) requireScope(principal, 'read', collection)
  else if (!covers(principal, 'read', '*')) {
    throw new DualstoreError('FORBIDDEN', 'name a collection that your key may read')
  }
}

function timeOf(text: string): number {
  const time = parseTime(text)
  if (time === undefined) throw invalid('query.since', 'must be an ISO 8601 time')
  return time
}

function positionOf(cursor: string): number {
  if (/^\d{1,15}$/.test(cursor)) return Number(cursor)
  throw invalid('query.cursor', 'must be the next_cursor of the page before', 'INVALID_CURSOR')
}

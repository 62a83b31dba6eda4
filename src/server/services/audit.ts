import type { Pool, Queryable } from '../db/pool.js'
import { DualstoreError, invalid } from '../errors.js'
import type { AuditEntryAnswer, AuditListQuery } from '../schemas/key.js'
import { type AuditEntry, appendAudit, readAudit } from '../store/audit.js'
import { type Access, covers, isRestricted } from './principal.js'
import { parseTime } from './time.js'

/** One page of the audit, the newest entry first. */
export interface AuditPage {
  entries: AuditEntryAnswer[]
  /** null at the end. */
  nextCursor: string | null
}

/** Writes down who did something, in the transaction that does it. */
export async function recordAudit(
  tx: Queryable,
  { principal, address }: Access,
  done: Pick<AuditEntry, 'action' | 'target' | 'details'>,
): Promise<void> {
  await appendAudit(tx, { actor: principal.id, keyId: principal.keyId, address, ...done })
}

export type AuditService = ReturnType<typeof createAuditService>

export function createAuditService(pool: Pool) {
  return {
    /**
     * A page of the audit.
     * @throws INVALID_REQUEST; FORBIDDEN to whom some collections are closed, because the audit names them all
     */
    async list({ principal }: Access, query: AuditListQuery): Promise<AuditPage> {
      if (!covers(principal, 'read', '*') || isRestricted(principal)) {
        throw new DualstoreError(
          'FORBIDDEN',
          'the audit needs a key with the read scope "*" and without rows',
        )
      }
      const since = query.since === undefined ? undefined : parseTime(query.since)
      if (query.since !== undefined && since === undefined) {
        throw invalid('query.since', 'must be an ISO 8601 time')
      }
      const { limit } = query
      const before = query.cursor === undefined ? undefined : positionOf(query.cursor)
      const rows = await readAudit(pool, { since, key: query.key, before, limit: limit + 1 })
      const page = rows.slice(0, limit)
      return {
        entries: page.map((row) => ({
          at: row.at.toISOString(),
          actor: row.actor,
          key_id: row.keyId,
          address: row.address,
          action: row.action,
          target: row.target,
          details: row.details,
        })),
        nextCursor: rows.length > limit ? String(page.at(-1)?.seq) : null,
      }
    },
  }
}

function positionOf(cursor: string): number {
  if (/^\d{1,15}$/.test(cursor)) return Number(cursor)
  throw invalid('query.cursor', 'must be the next_cursor of a page before', 'INVALID_CURSOR')
}

import { DualstoreError, invalid } from '../errors.js'
import type { Filter } from '../filter/ast.js'
import { parseFilter } from '../filter/parse.js'
import { printFilter } from '../filter/print.js'
import type { KeyInput } from '../schemas/key.js'
import type { StoredKey } from '../store/keys.js'
import { covers, hasRole, type Principal } from './principal.js'
import { parseTime } from './time.js'

/** What a key allows, everything decided. */
export type KeyRights = Pick<StoredKey, 'role' | 'readScopes' | 'writeScopes' | 'rowFilter'>

/**
 * The rights that a new key gets: what was asked for, bounded by what its maker may. Nobody gives away more than they
 * have: a scope beyond the maker's own is refused, and the maker's rows bind the new key too.
 * @throws INVALID_REQUEST, INVALID_FILTER or FORBIDDEN
 */
export function rightsOfNewKey(maker: Principal, input: KeyInput): KeyRights {
  const { role, scopes = {}, rows = null } = input
  const readScopes = scopes.read ?? [...maker.scopes.read]
  const writeScopes = scopes.write ?? (role === 'reader' ? [] : [...maker.scopes.write])
  if (role === 'reader' && writeScopes.length > 0) {
    throw invalid('body.scopes.write', 'must be empty for a reader, which writes nothing')
  }
  if (rows !== null) parseFilter(rows, 'body.rows')
  const rights = { role, readScopes, writeScopes, rowFilter: boundRows(maker.rows, rows) }
  requireWithin(maker, rights, 'the new key')
  return rights
}

/** The moment a key ends, in epoch milliseconds; null for never. @throws INVALID_REQUEST */
export function expiryOf(input: KeyInput, now: number): number | null {
  if (input.expires_at === undefined || input.expires_at === null) return null
  const time = parseTime(input.expires_at)
  const message = time === undefined ? 'must be an ISO 8601 time' : 'must be in the future'
  if (time === undefined || time <= now) throw invalid('body.expires_at', message)
  return time
}

/** @throws FORBIDDEN that names what goes beyond the principal's own rights */
function requireWithin(principal: Principal, rights: KeyRights, what: string): void {
  const beyond = firstBeyond(principal, rights)
  if (beyond === undefined) return
  throw new DualstoreError('FORBIDDEN', `${what} would have ${beyond}, which goes beyond your own rights`)
}

/** True when everything a key allows is allowed to the principal too, who may then manage it. */
export function isWithin(principal: Principal, rights: KeyRights): boolean {
  return firstBeyond(principal, rights) === undefined
}

/**
 * What a key allows and the principal does not; undefined when there is nothing. On the safe side: a pattern lies
 * within another one that matches it as a text, and rows within others that all stand among their conditions.
 */
function firstBeyond(principal: Principal, rights: KeyRights): string | undefined {
  if (!hasRole(principal, rights.role)) return `the role "${rights.role}"`
  const read = rights.readScopes.find((pattern) => !covers(principal, 'read', pattern))
  if (read !== undefined) return `the read scope "${read}"`
  const write = rights.writeScopes.find((pattern) => !covers(principal, 'write', pattern))
  if (write !== undefined) return `the write scope "${write}"`
  const required = conditions(principal.rows)
  if (required.length === 0) return undefined
  const held = rights.rowFilter === null ? [] : conditions(parseFilter(rights.rowFilter, 'rows'))
  return required.every((condition) => held.includes(condition)) ? undefined : 'rows of others'
}

/** The conditions that all must hold, as texts that can be compared. */
function conditions(filter: Filter): string[] {
  if (filter.op === 'and') return filter.of.flatMap(conditions)
  return [JSON.stringify(printFilter(filter))]
}

/** The filter asked for within the maker's own. @throws INVALID_FILTER when both together are too much for a filter */
function boundRows(own: Filter, asked: Record<string, unknown> | null): Record<string, unknown> | null {
  if (conditions(own).length === 0) return asked
  const bounds = printFilter(own)
  if (asked === null) return bounds
  const rows = { $and: [bounds, asked] }
  parseFilter(rows, 'body.rows')
  return rows
}

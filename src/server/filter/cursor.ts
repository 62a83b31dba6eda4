import { createHash } from 'node:crypto'
import { invalid } from '../errors.js'
import { isStorable, type Path, splitPath } from './path.js'

export type SortOrder = 'asc' | 'desc'

/** By which field of the item a list is ordered; ties are broken by id in the same direction. */
export interface Sort {
  path: Path
  order: SortOrder
}

/**
 * Where a row stands in an order: the values it is ordered by, as text, the id last. What they are for each kind of
 * order is decided in store/sort-sql.ts; SORT_KEYS describes their form.
 */
export type SortKey = readonly string[]

/** How a field is ordered: the server's own three have columns, every other is a value of any type or none. */
export type SortKind = 'id' | 'time' | 'field'

export function sortKind({ path }: Sort): SortKind {
  if (path.length > 1) return 'field'
  switch (path[0]) {
    case 'id':
      return 'id'
    case 'created_at':
    case 'updated_at':
      return 'time'
    default:
      return 'field'
  }
}

// What PostgreSQL can read back: a cursor that was tampered with must fail here and not in a cast.
const text = (part: string) => isStorable(part)
const milliseconds = (part: string) => /^-?\d{1,15}$/.test(part)
const numeric = (part: string) => part.length <= 16_000 && /^-?\d+(\.\d+)?$/.test(part)
const rank = (part: string) => /^[0-4]$/.test(part)
const SORT_KEYS: Readonly<Record<SortKind, readonly ((part: string) => boolean)[]>> = {
  id: [text],
  time: [milliseconds, text],
  field: [rank, numeric, text, text],
}

/** Reads sort_by and sort_order. @throws INVALID_REQUEST naming query.sort_by. */
export function parseSort(field: string, order: SortOrder): Sort {
  const split = splitPath(field)
  if ('fault' in split) throw invalid('query.sort_by', split.fault)
  return { path: split.path, order }
}

/**
 * A short name for what a list selects, so that a cursor is only continued with the selection it came from.
 * @param selection Anything that serialises to JSON: the parsed filter and whatever else narrows the list.
 */
export function fingerprint(selection: unknown): string {
  return createHash('sha256').update(JSON.stringify(selection)).digest('base64url').slice(0, 16)
}

/** The cursor that continues a list behind the row with this key. Opaque to clients, safe in a URL. */
export function encodeCursor(sort: Sort, selection: string, key: SortKey): string {
  return Buffer.from(JSON.stringify([sort.path.join('.'), sort.order, selection, ...key])).toString(
    'base64url',
  )
}

/**
 * The key of the row that a cursor continues behind.
 * @throws INVALID_CURSOR when it is damaged, or comes from a list of another order or selection.
 */
export function decodeCursor(cursor: string, sort: Sort, selection: string): SortKey {
  const parts = readParts(cursor)
  const [field, order, from, ...key] = parts
  const form = SORT_KEYS[sortKind(sort)]
  if (field !== sort.path.join('.') || order !== sort.order || from !== selection) {
    throw refused(
      'comes from a list with another filter or order: repeat those of the request that returned it',
    )
  }
  if (key.length !== form.length || !form.every((accepts, index) => accepts(key[index] ?? '')))
    throw damaged()
  return key
}

function readParts(cursor: string): readonly string[] {
  const bytes = Buffer.from(cursor, 'base64url')
  // Buffer skips what is not base64url; only the one true spelling is accepted.
  if (bytes.length === 0 || bytes.toString('base64url') !== cursor) throw damaged()
  let parts: unknown
  try {
    parts = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes))
  } catch {
    throw damaged()
  }
  if (!Array.isArray(parts) || parts.length < 4 || !parts.every((part) => typeof part === 'string'))
    throw damaged()
  return parts
}

function damaged(): Error {
  return refused('must be a next_cursor as a list returned it')
}

function refused(message: string): Error {
  return invalid('query.cursor', message, 'INVALID_CURSOR')
}

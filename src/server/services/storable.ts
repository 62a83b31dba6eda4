import { type Fault, invalid } from '../errors.js'
import { isStorable } from '../filter/path.js'

/** Levels of nesting below which BSON, and with it every MongoDB, takes a document. */
export const MAX_DEPTH = 90

/**
 * Finds what no store can hold although it is JSON: the character U+0000 and lone surrogates (PostgreSQL's jsonb),
 * numbers beyond double precision, and nesting deeper than BSON allows.
 * @param value Any parsed JSON.
 * @param path Where it stands, for the fault: `body`.
 * @returns The first fault, or undefined.
 */
export function storageFault(value: unknown, path: string, depth = 0): Fault | undefined {
  const found = faultIn(value, depth)
  return found && { field: path + found.field, message: found.message }
}

/** The first fault, with where it stands below `value`. Almost always there is none, so no path is made on the way. */
function faultIn(value: unknown, depth: number): Fault | undefined {
  if (typeof value === 'string') return stringFault(value, '')
  if (typeof value === 'number') {
    return Number.isFinite(value)
      ? undefined
      : { field: '', message: 'must be a number that a double can hold' }
  }
  if (typeof value !== 'object' || value === null) return undefined
  if (depth >= MAX_DEPTH) return { field: '', message: `must not be nested deeper than ${MAX_DEPTH} levels` }
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) {
      const fault = faultIn(value[index], depth + 1)
      if (fault !== undefined) return { ...fault, field: `[${index}]${fault.field}` }
    }
    return undefined
  }
  for (const key in value) {
    if (!isStorable(key)) return stringFault(key, ' key')
    const fault = faultIn((value as Record<string, unknown>)[key], depth + 1)
    if (fault !== undefined) return { ...fault, field: `.${key}${fault.field}` }
  }
  return undefined
}

function stringFault(value: string, field: string): Fault | undefined {
  if (value.includes('\u0000')) return { field, message: 'must not contain the character U+0000' }
  if (!value.isWellFormed()) return { field, message: 'must not contain half of a surrogate pair' }
  return undefined
}

/** @throws INVALID_REQUEST for a text of a request that PostgreSQL could not even be asked about. */
export function requireStorable(text: string, field: string): void {
  if (!isStorable(text)) throw invalid(field, 'must not contain NUL characters and unpaired surrogates')
}

import type { Json } from '../schemas/item.js'

/** The segments of a dotted path into an item: `metadata.model` is ['metadata', 'model']. Never empty. */
export type Path = readonly string[]

/** Most characters (code points) of a path as it is written, dots included. */
export const MAX_PATH_LENGTH = 200

/** PostgreSQL's jsonb holds neither U+0000 nor half a surrogate pair, so no stored text has them. */
export function isStorable(text: string): boolean {
  return !text.includes('\0') && text.isWellFormed()
}

/** Splits a path, or says what is wrong with it in words that follow the name of the field. */
export function splitPath(text: string): { path: Path } | { fault: string } {
  if (text.length > MAX_PATH_LENGTH && [...text].length > MAX_PATH_LENGTH) {
    return { fault: `must be a path of at most ${MAX_PATH_LENGTH} characters` }
  }
  if (!isStorable(text)) return { fault: 'must be a path without NUL characters and unpaired surrogates' }
  if (text.includes('$')) return { fault: 'must be a path without $' }
  const path = text.split('.')
  if (path.includes('')) return { fault: 'must be a path without empty segments, such as metadata.model' }
  return { path }
}

/**
 * The value at a path, undefined when there is none. Segments name keys of objects and positions in arrays, and
 * mean exactly what they mean to PostgreSQL's `#>` operator, so that both stores find the same value. Arrays are
 * never looked through: `tags.name` finds nothing in an array of objects, `tags.0.name` does.
 */
export function resolve(item: Json, path: Path): Json | undefined {
  let value: Json | undefined = item
  for (const segment of path) {
    if (typeof value !== 'object' || value === null) return undefined
    if (Array.isArray(value)) {
      const position = arrayPosition(segment)
      value = position === undefined ? undefined : value.at(position)
    } else {
      value = Object.hasOwn(value, segment) ? value[segment] : undefined
    }
  }
  return value
}

const INT32_MAX = 2 ** 31 - 1

/** A segment read as `#>` reads it (C's strtol): white space and a sign may lead, negative counts from the end. */
export function arrayPosition(segment: string): number | undefined {
  if (!/^[ \t\n\v\f\r]*[+-]?[0-9]+$/.test(segment)) return undefined
  const position = Number(segment)
  return position >= -INT32_MAX - 1 && position <= INT32_MAX ? position : undefined
}

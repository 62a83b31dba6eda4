import { isDeepStrictEqual } from 'node:util'

/** One place where a mirrored document is not as it should be; values as short text, undefined where there is none. */
export interface Difference {
  /** Field by field, joined by dots: `metadata.progress`. */
  path: string
  /** What PostgreSQL has, in the legacy shape. */
  ours?: string
  /** What the mirror has. */
  theirs?: string
}

const MAX_DIFFERENCES = 20
const MAX_TEXT = 200

/** Where two documents differ, the first twenty places; types count, the order of members does not. */
export function differencesOf(ours: unknown, theirs: unknown): Difference[] {
  const found: Difference[] = []
  collect(ours, theirs, '', found)
  return found
}

function collect(ours: unknown, theirs: unknown, path: string, found: Difference[]): void {
  if (found.length === MAX_DIFFERENCES || isDeepStrictEqual(ours, theirs)) return
  if (isPlainObject(ours) && isPlainObject(theirs)) {
    for (const name of new Set([...Object.keys(ours), ...Object.keys(theirs)])) {
      collect(own(ours, name), own(theirs, name), path === '' ? name : `${path}.${name}`, found)
    }
    return
  }
  found.push({
    path: cut(path),
    ...(ours !== undefined && { ours: shortText(ours) }),
    ...(theirs !== undefined && { theirs: shortText(theirs) }),
  })
}

/** A value as text that tells its type: JSON, or the name of the type in front where JSON has none. */
export function shortText(value: unknown): string {
  return cut(typedText(value))
}

function cut(text: string): string {
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT - 1).toWellFormed()}…` : text
}

function typedText(value: unknown): string {
  if (value instanceof Date) return `Date ${Number.isNaN(value.getTime()) ? 'invalid' : value.toISOString()}`
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value)
  if (typeof value === 'bigint') return `bigint ${value}`
  if (typeof value === 'object' && value !== null && '_bsontype' in value) {
    return `${String(value._bsontype)} ${String(value)}`
  }
  return JSON.stringify(value) ?? String(value)
}

/** Not a Date, not one of BSON's own classes. */
function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

function own(object: Record<string, unknown>, name: string): unknown {
  return Object.hasOwn(object, name) ? object[name] : undefined
}

import type { Json } from '../schemas/item.js'

/** BSON documents may nest this deep, the document itself being level 1 (MongoDB manual, "Limits and thresholds"). */
const DEEPEST_LEVEL = 100

const loneSurrogate = /\p{Surrogate}/u
// `_bsontype` makes the JavaScript driver take an object for one of its own classes, and drivers before 4.0 assign
// `__proto__` instead of storing it. That of version 7 leaves an array undecoded under every name that a plain object
// inherits: it looks the name up in an object of its own (its option fieldsAsRaw, `{}` by default).
const misreadNames = new Set(['', '_bsontype', ...Object.getOwnPropertyNames(Object.prototype)])

/** True for a field name that every MongoDB and every driver, old ones included, stores and reads as it is. */
export function isStorableName(name: string): boolean {
  return !(
    misreadNames.has(name) ||
    name.startsWith('$') ||
    name.includes('.') ||
    name.includes('\0') ||
    loneSurrogate.test(name)
  )
}

/**
 * What BSON can hold of a value without changing its meaning; undefined when that is nothing. Members that cannot
 * be held are left out of their object, elements become null so that the others keep their places, and -0 becomes 0.
 * @param level Nesting level that the value takes when it is an object or an array.
 */
export function storable(value: Json, level: number): Json | undefined {
  if (typeof value === 'string') return loneSurrogate.test(value) ? undefined : value
  if (typeof value === 'number') return value + 0
  if (typeof value !== 'object' || value === null) return value
  if (level > DEEPEST_LEVEL) return undefined
  if (Array.isArray(value)) return value.map((element) => storable(element, level + 1) ?? null)
  return storableMembers(value, level)
}

/** The members of an object at `level` that BSON can hold, as `storable` says. */
export function storableMembers(object: { [field: string]: Json }, level: number): { [field: string]: Json } {
  const kept: { [field: string]: Json } = {}
  for (const [name, member] of Object.entries(object)) {
    const value = isStorableName(name) ? storable(member, level + 1) : undefined
    if (value !== undefined) kept[name] = value
  }
  return kept
}

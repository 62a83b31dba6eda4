import { inspect } from 'node:util'
import { BSON } from 'mongodb'
import type { Json } from '../../server/schemas/item.js'

export type Fields = { [field: string]: unknown }
export type JsonFields = { [field: string]: Json }

/** Deeper than any store takes: what lies below is not looked at, because the document is refused anyway. */
const DEEPEST = 100
/** Decimal digits that every double keeps. */
const SAFE_DIGITS = 15

/**
 * A value of BSON as JSON that keeps its meaning. JSON is given back as it is, not copied.
 * @param onConverted Called when something had no JSON of its own.
 */
export function jsonOf(value: unknown, onConverted: () => void, depth = 0): Json {
  if (typeof value === 'string' || typeof value === 'boolean' || value === null) return value
  if (typeof value === 'number' && Number.isFinite(value)) return value
  if (depth > DEEPEST) return value as Json
  if (Array.isArray(value)) return arrayOf(value, onConverted, depth)
  if (isPlain(value)) return objectOf(value, onConverted, depth)
  onConverted()
  return converted(value, onConverted, depth)
}

function arrayOf(value: unknown[], onConverted: () => void, depth: number): Json {
  let copy: Json[] | undefined
  for (let index = 0; index < value.length; index++) {
    const element = jsonOf(value[index], onConverted, depth + 1)
    if (element === value[index]) continue
    copy ??= value.slice() as Json[]
    copy[index] = element
  }
  return copy ?? (value as Json[])
}

function objectOf(value: Fields, onConverted: () => void, depth: number): Json {
  let copy: { [field: string]: Json } | undefined
  for (const name of Object.keys(value)) {
    const member = jsonOf(value[name], onConverted, depth + 1)
    if (member === value[name]) continue
    copy ??= { ...value } as { [field: string]: Json }
    put(copy, name, member)
  }
  return copy ?? (value as { [field: string]: Json })
}

/** Values that JSON has no form for. The classes decide and not `_bsontype`, which a stored object may carry as data. */
function converted(value: unknown, onConverted: () => void, depth: number): Json {
  if (value === undefined) return null
  if (typeof value === 'number') return String(value)
  if (typeof value === 'bigint') return safeNumber(String(value))
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString()
  if (value instanceof BSON.ObjectId) return value.toHexString()
  if (value instanceof BSON.Int32 || value instanceof BSON.Double) {
    return Number.isFinite(value.value) ? value.value : String(value.value)
  }
  // Before Long, whose class it extends.
  if (value instanceof BSON.Timestamp) return { t: value.t, i: value.i }
  if (value instanceof BSON.Long || value instanceof BSON.Decimal128) return safeNumber(value.toString())
  if (value instanceof BSON.UUID) return value.toHexString()
  if (value instanceof BSON.Binary) {
    return isUuid(value) ? value.toUUID().toHexString() : value.toString('base64')
  }
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64')
  if (value instanceof BSON.BSONRegExp) return `/${value.pattern}/${value.options}`
  if (value instanceof BSON.Code) {
    return value.scope === null
      ? value.code
      : jsonOf({ code: value.code, scope: value.scope }, onConverted, depth)
  }
  if (value instanceof BSON.DBRef) return jsonOf({ ...value.toJSON() }, onConverted, depth)
  if (value instanceof BSON.BSONSymbol) return value.value
  if (value instanceof BSON.MinKey) return 'MinKey'
  if (value instanceof BSON.MaxKey) return 'MaxKey'
  return String(value)
}

function isUuid({ sub_type, position }: BSON.Binary): boolean {
  return sub_type === BSON.Binary.SUBTYPE_UUID && position === 16
}

/** The number that a decimal text means when a double says the same, else the text. */
function safeNumber(text: string): Json {
  const value = Number(text)
  if (!Number.isFinite(value)) return text
  if (Number.isSafeInteger(value)) return value
  const digits = text.replace(/E.*$/i, '').replace(/\D/g, '').replace(/^0+/, '')
  return digits.length <= SAFE_DIGITS && value !== 0 ? value : text
}

/** The document as canonical extended JSON; as near to it as can be when it holds what that cannot say. */
export function exactText(document: unknown): string {
  try {
    return BSON.EJSON.stringify(document, { relaxed: false })
  } catch {
    // Data that is called `_bsontype`, or nesting beyond the stack.
  }
  try {
    return JSON.stringify(jsonOf(document, () => {}))
  } catch {
    return JSON.stringify({ document: inspect(document, { depth: DEEPEST, breakLength: Infinity }) })
  }
}

/** Sets a member; `__proto__` is a plain name like any other. */
export function put<T>(object: { [field: string]: T }, name: string, value: T): void {
  if (name !== '__proto__') object[name] = value
  else Object.defineProperty(object, name, { value, enumerable: true, configurable: true, writable: true })
}

/** An object without a class, as BSON and JSON make them. */
export function isPlain(value: unknown): value is Fields {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

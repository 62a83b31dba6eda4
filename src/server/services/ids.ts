import { randomFillSync } from 'node:crypto'
import { type Fault, invalid } from '../errors.js'
import { RESERVED_DOCUMENT_IDS } from '../schemas/collection.js'

const DIGITS = '0123456789abcdefghijklmnopqrstuvwxyz'
const RANDOM_DIGITS = 9
// Random bytes are drawn many at a time: a draw costs far more than the bytes.
const pool = new Uint8Array(RANDOM_DIGITS * 256)
let used = pool.length

/** A fresh id in the legacy form: prefix, epoch milliseconds, nine base-36 characters (legacy contract, section 4). */
export function newId(prefix: string, now: number): string {
  if (used === pool.length) {
    randomFillSync(pool)
    used = 0
  }
  let digits = ''
  for (const end = used + RANDOM_DIGITS; used < end; used++) digits += DIGITS[(pool[used] ?? 0) % 36]
  return `${prefix}_${now}_${digits}`
}

const MAX_ID_BYTES = 512

/** Why a text cannot be a document's id; undefined when it can. */
export function idFault(id: unknown, field: string): Fault | undefined {
  const fault = (message: string) => ({ field, message })
  if (typeof id !== 'string' || id === '') return fault('must be a non-empty string')
  if (Buffer.byteLength(id) > MAX_ID_BYTES) return fault(`must not be longer than ${MAX_ID_BYTES} bytes`)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is being refused
  if (/[\u0000-\u001f\u007f]/.test(id) || !id.isWellFormed()) {
    return fault('must not contain control characters or half of a surrogate pair')
  }
  if (id === '.' || id === '..') return fault('must not be a relative path')
  if ((RESERVED_DOCUMENT_IDS as readonly string[]).includes(id)) {
    return fault(`must not be one of the reserved words ${RESERVED_DOCUMENT_IDS.join(', ')}`)
  }
  return undefined
}

/** @throws INVALID_REQUEST when the text cannot be an id. */
export function requireId(id: unknown, field: string): string {
  const fault = idFault(id, field)
  if (fault !== undefined) throw invalid(fault.field, fault.message)
  return id as string
}

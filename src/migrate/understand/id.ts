import { createHash } from 'node:crypto'
import { BSON } from 'mongodb'
import { idFault } from '../../server/services/ids.js'
import { Refusal } from './refusal.js'

/** Hexadecimal digits of the hash in a derived id: 128 bits. */
const HASH_DIGITS = 32

/** @throws Refusal when the text cannot be an id in dualstore. */
export function requiredId(id: unknown): string {
  const fault = idFault(id, 'id')
  if (fault !== undefined) throw new Refusal(`${fault.field} ${fault.message}`)
  return id as string
}

/**
 * The text that clients of the legacy server knew an id of another type by; undefined for what names nothing.
 * Numbers by their digits, ObjectIds and UUIDs in hexadecimal.
 */
export function idText(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'bigint')
    return Number.isNaN(value) ? undefined : String(value)
  if (value instanceof BSON.ObjectId || value instanceof BSON.UUID) return value.toHexString()
  if (value instanceof BSON.Timestamp) return undefined
  if (
    value instanceof BSON.Long ||
    value instanceof BSON.Int32 ||
    value instanceof BSON.Double ||
    value instanceof BSON.Decimal128
  ) {
    return value.toString()
  }
  if (value instanceof BSON.Binary && value.sub_type === BSON.Binary.SUBTYPE_UUID && value.position === 16) {
    return value.toUUID().toHexString()
  }
  return undefined
}

/** The id of a document without one: the same whenever it is read. */
export function derivedId(prefix: string, _id: unknown, sourceId: string): string {
  if (_id instanceof BSON.ObjectId) return `${prefix}_${_id.toHexString()}`
  if (typeof _id === 'string' && idFault(_id, 'id') === undefined) return _id
  return `${prefix}_${createHash('sha256').update(sourceId).digest('hex').slice(0, HASH_DIGITS)}`
}

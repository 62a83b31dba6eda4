import { invalid, invalidAll } from '../errors.js'
import type { Write } from '../store/documents.js'
import { fingerprint } from './fingerprint.js'
import { newId, requireId } from './ids.js'
import { ownFields } from './item-validator.js'
import type { Principal } from './principal.js'
import type { Collection } from './registry.js'
import { timeText } from './time.js'

/** A document to create. */
export interface Create {
  item: unknown
  /** Repeating the request with the same key and item repeats nothing and is answered the same. */
  idempotencyKey?: string | undefined
}

export interface WriteInput {
  id: string
  fields: Readonly<Record<string, unknown>>
  /** Epoch milliseconds. */
  at: number
}

/**
 * The write that creates a document. An `id` in the item is used when it is valid; times are the server's.
 * @param at Epoch milliseconds.
 * @throws INVALID_REQUEST
 */
export function createOf(
  principal: Principal,
  collection: Collection,
  { item, idempotencyKey }: Create,
  at: number,
): Write {
  const fields = requireObject(item, 'body')
  const id =
    fields.id === undefined ? newId(collection.definition.id_prefix, at) : requireId(fields.id, 'body.id')
  const write = writeOf('create', collection, { id, fields, at })
  if (idempotencyKey !== undefined) {
    write.idempotency = { key: ownKey(principal, idempotencyKey), fingerprint: fingerprint(fields) }
  }
  return write
}

/** Checks the fields against the collection and puts the server's own in front. @throws INVALID_REQUEST */
export function writeOf(mode: Write['mode'], collection: Collection, input: WriteInput): Write {
  const fields = ownFields(input.fields)
  const fault = collection.validate(fields, 'body')
  if (fault !== undefined) throw invalidAll([fault])
  const time = timeText(input.at)
  return {
    mode,
    collection: collection.definition.name,
    id: input.id,
    text: JSON.stringify({ id: input.id, created_at: time, updated_at: time, ...fields }),
    ifVersion: null,
    createdAt: input.at,
    updatedAt: input.at,
    idempotency: null,
  }
}

/** @throws INVALID_REQUEST when a value is not a JSON object. */
export function requireObject(value: unknown, field: string): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Readonly<Record<string, unknown>>
  }
  throw invalid(field, 'must be a JSON object')
}

/**
 * An Idempotency-Key belongs to who sent it, rows included: another's, though it is the same, shows nothing of what was
 * created with it. No header can hold the separator.
 */
function ownKey({ id, rows }: Principal, key: string): string {
  return `${key}\u0002${fingerprint({ id, rows })}`
}

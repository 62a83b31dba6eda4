import jsonPatch, { type Operation } from 'fast-json-patch'
import { DualstoreError, invalid } from '../errors.js'
import { storageFault } from './storable.js'

/** A change of parts of a document: RFC 7396 (merge) or RFC 6902 (json). */
export type Patch = { kind: 'merge'; body: unknown } | { kind: 'json'; body: unknown }

const MAX_OPERATIONS = 1000
/** Most characters that the `copy` operations of one patch may add, as JSON: each could double the document. */
const MAX_COPIED = 10 * 1024 * 1024

/**
 * Applies a patch to a freshly parsed document, which it may change.
 * @throws INVALID_PATCH naming the operation; CONFLICT when a JSON Patch `test` does not hold.
 */
export function applyPatch(document: unknown, patch: Patch): unknown {
  if (patch.kind === 'merge') {
    if (!isObject(patch.body)) {
      throw invalid('body', 'must be a JSON object of the fields to change', 'INVALID_PATCH')
    }
    requireStorable(patch.body)
    return merge(document, patch.body)
  }
  if (!Array.isArray(patch.body) || patch.body.length > MAX_OPERATIONS) {
    throw invalid(
      'body',
      `must be an array of at most ${MAX_OPERATIONS} JSON Patch operations`,
      'INVALID_PATCH',
    )
  }
  requireStorable(patch.body)
  return applyOperations(document, patch.body as Operation[])
}

// Also a bound on depth: what follows walks the patch recursively.
function requireStorable(body: unknown): void {
  const fault = storageFault(body, 'body')
  if (fault !== undefined) throw invalid(fault.field, fault.message, 'INVALID_PATCH')
}

/**
 * RFC 7396, section 2. Of our own because json-merge-patch drops everything behind a member that is called
 * `constructor` or `prototype`, silently, and fails on documents with a member `hasOwnProperty`.
 */
function merge(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch
  const merged = new Map(isObject(target) ? Object.entries(target) : [])
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key)
    else merged.set(key, merge(merged.get(key), value))
  }
  return Object.fromEntries(merged)
}

function applyOperations(document: unknown, operations: readonly Operation[]): unknown {
  let patched = document
  let copied = 0
  for (const [index, operation] of operations.entries()) {
    try {
      if (operation?.op === 'copy' || operation?.op === 'move') {
        const source = requireSource(patched, operation, index)
        if (operation.op === 'copy') copied += JSON.stringify(source).length
        if (copied > MAX_COPIED)
          throw invalid(`body[${index}]`, 'copies too much into one document', 'INVALID_PATCH')
      }
      patched = jsonPatch.applyOperation(patched, operation, true, true, true, index).newDocument
    } catch (error) {
      throw patchError(error, index)
    }
  }
  return patched
}

/**
 * What a `copy` or `move` takes. It must be the document's own: the library finds what every object inherits too, and
 * hands out the functions of the language themselves, which a later operation could then change for the whole process.
 */
function requireSource(
  document: unknown,
  { op, from, path }: { op: 'copy' | 'move'; from: string; path: string },
  index: number,
): unknown {
  const fault = (message: string) => invalid(`body[${index}].from`, message, 'INVALID_PATCH')
  if (typeof from !== 'string' || (from !== '' && !from.startsWith('/')))
    throw fault('must be a JSON Pointer')
  // RFC 6902, section 4.4.
  if (op === 'move' && String(path).startsWith(`${from}/`)) throw fault('cannot be moved into itself')
  let value = document
  for (const token of from.split('/').slice(1)) {
    const key = token.replaceAll('~1', '/').replaceAll('~0', '~')
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key))
      throw fault('must be the place of a value in the document')
    value = (value as Record<string, unknown>)[key]
  }
  return value
}

function patchError(error: unknown, index: number): unknown {
  if (error instanceof DualstoreError) return error
  const { name } = error as { name?: string }
  const field = `body[${index}]`
  if (name === 'TEST_OPERATION_FAILED') {
    return new DualstoreError('CONFLICT', `${field} is a test that does not hold`, {
      details: [{ field, message: 'does not hold' }],
    })
  }
  // Every name is one of the library's own codes; whatever else goes wrong comes from the shape of the operations.
  const reason = name?.includes('_') ? name.toLowerCase().replaceAll('_', ' ') : 'not a JSON Patch operation'
  return invalid(field, `cannot be applied: ${reason}`, 'INVALID_PATCH')
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

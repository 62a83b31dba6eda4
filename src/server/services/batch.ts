import { latestPosition } from '../changes/position.js'
import { DualstoreError, invalid } from '../errors.js'
import type { BatchOperation } from '../schemas/batch.js'
import type { ConsistencyLevel } from './consistency.js'
import type { DocumentService, WriteAnswer } from './documents.js'
import { requireId } from './ids.js'
import type { Create } from './item-writes.js'
import { etagOf } from './precondition.js'
import type { Access } from './principal.js'
import { createTurns } from './turns.js'

/** What became of one operation of a batch. */
export interface BatchResult {
  status: number
  /** Place of its write in the log; null when nothing was written. */
  position: string | null
  /** The document, or the error. */
  answer: { id: string; version?: number; etag?: string; text?: string } | DualstoreError
}

export interface BatchRequest {
  collection: string
  operations: readonly BatchOperation[]
  consistency?: ConsistencyLevel | undefined
  /** Repeating the batch with the same key repeats none of its creates. */
  idempotencyKey?: string | undefined
}

/**
 * Runs operations on one collection, each with a result of its own. Those on different documents share statements;
 * those on the same document run in the order given.
 */
export async function runBatch(
  documents: DocumentService,
  access: Access,
  request: BatchRequest,
): Promise<BatchResult[]> {
  const { collection, operations, consistency } = request
  await documents.requireWritable(access, collection)
  const results = new Array<BatchResult>(operations.length)
  const shared = sharedIds(operations)
  const turns = createTurns()
  const others: Promise<void>[] = []
  let faulty = false
  // Creates of documents that no other operation is about, which most operations are, go together.
  const creates: Create[] = []
  const places: number[] = []
  for (const [index, operation] of operations.entries()) {
    if (operation.op === 'create' && !shared.has(operation.item.id)) {
      creates.push({ item: operation.item, idempotencyKey: keyOf(request, index) })
      places.push(index)
    } else {
      const run = async () => {
        // Behind a fault of the server nothing more is begun: the batch fails as a whole.
        if (faulty) return
        try {
          results[index] = await runOperation(documents, access, { ...request, operation, index })
        } catch (error) {
          faulty = !(error instanceof DualstoreError)
          results[index] = resultOf(error)
        }
      }
      others.push(turns.take(String(idOf(operation)), run))
    }
  }
  const create = async () => {
    const outcomes = await documents.createAll(access, collection, creates, consistency)
    for (const [place, outcome] of outcomes.entries()) {
      results[places[place] as number] =
        outcome.status === 'fulfilled' ? done(201, outcome.value) : resultOf(outcome.reason)
    }
  }
  await Promise.all([create(), ...others])
  return results
}

/** From where on all that a batch wrote is visible; null when it wrote nothing. */
export function positionOf(results: readonly BatchResult[]): string | null {
  return latestPosition(results.map((result) => result.position))
}

function idOf(operation: BatchOperation): unknown {
  return operation.op === 'create' ? operation.item.id : operation.id
}

/** The ids that several operations are about. */
function sharedIds(operations: readonly BatchOperation[]): ReadonlySet<unknown> {
  const seen = new Set<unknown>()
  const shared = new Set<unknown>()
  for (const operation of operations) {
    const id = idOf(operation)
    if (id === undefined) continue
    if (seen.has(id)) shared.add(id)
    seen.add(id)
  }
  return shared
}

/** The key of one create. No header can hold its separator, so that no single create ever shares the key. */
function keyOf({ idempotencyKey }: BatchRequest, index: number): string | undefined {
  return idempotencyKey && `${idempotencyKey}\u0001${index}`
}

function done(status: number, { id, version, text, position }: WriteAnswer): BatchResult {
  return { status, position, answer: { id, version, etag: etagOf(version), text } }
}

/** @throws what is no refusal of one operation, but a fault of the server. */
function resultOf(error: unknown): BatchResult {
  if (!(error instanceof DualstoreError)) throw error
  // A write whose wait for the mirror timed out stands all the same.
  const { position } = error.extra
  return { status: error.status, answer: error, position: typeof position === 'string' ? position : null }
}

async function runOperation(
  documents: DocumentService,
  access: Access,
  request: BatchRequest & { operation: BatchOperation; index: number },
): Promise<BatchResult> {
  const { collection, operation, index, consistency } = request
  const precondition =
    'if_version' in operation && operation.if_version !== undefined
      ? { ifMatch: [operation.if_version] }
      : undefined
  if (operation.op !== 'create') requireId(operation.id, `body.operations[${index}].id`)
  switch (operation.op) {
    case 'create': {
      const given = { consistency, idempotencyKey: keyOf(request, index) }
      return done(201, await documents.create(access, collection, operation.item, given))
    }
    case 'put': {
      const written = await documents.put(access, { collection, id: operation.id }, operation.item, {
        consistency,
        precondition,
      })
      return done(written.created ? 201 : 200, written)
    }
    case 'patch': {
      const patch = { kind: 'merge' as const, body: operation.patch }
      const place = { collection, id: operation.id }
      return done(200, await documents.patch(access, place, patch, { consistency, precondition }))
    }
    case 'delete': {
      const place = { collection, id: operation.id }
      const { position } = await documents.remove(access, place, { consistency, precondition })
      return { status: 200, position, answer: { id: operation.id } }
    }
    default:
      throw invalid(`body.operations[${index}].op`, 'must be one of create, put, patch, delete')
  }
}

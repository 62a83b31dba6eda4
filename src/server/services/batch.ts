import { DualstoreError, invalid } from '../errors.js'
import type { BatchOperation } from '../schemas/batch.js'
import type { ConsistencyLevel } from './consistency.js'
import type { DocumentService } from './documents.js'
import { requireId } from './ids.js'
import { etagOf } from './precondition.js'
import type { Access } from './principal.js'

/** What became of one operation of a batch. */
export interface BatchResult {
  status: number
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
  await documents.requireWritable(access, request.collection)
  const previous = new Map<string, Promise<BatchResult>>()
  return Promise.all(
    request.operations.map((operation, index) => {
      const run = () => settle(() => runOperation(documents, access, { ...request, operation, index }))
      const id = idOf(operation)
      if (id === undefined) return run()
      const result = (previous.get(id) ?? Promise.resolve()).then(run)
      previous.set(id, result)
      return result
    }),
  )
}

function idOf(operation: BatchOperation): string | undefined {
  const id = operation.op === 'create' ? operation.item.id : operation.id
  return typeof id === 'string' ? id : undefined
}

async function settle(run: () => Promise<BatchResult>): Promise<BatchResult> {
  try {
    return await run()
  } catch (error) {
    if (error instanceof DualstoreError) return { status: error.status, answer: error }
    throw error
  }
}

async function runOperation(
  documents: DocumentService,
  access: Access,
  request: BatchRequest & { operation: BatchOperation; index: number },
): Promise<BatchResult> {
  const { collection, operation, index, consistency } = request
  const done = (status: number, { id, version, text }: { id: string; version: number; text: string }) => ({
    status,
    answer: { id, version, etag: etagOf(version), text },
  })
  const precondition =
    'if_version' in operation && operation.if_version !== undefined
      ? { ifMatch: [operation.if_version] }
      : undefined
  if (operation.op !== 'create') requireId(operation.id, `body.operations[${index}].id`)
  switch (operation.op) {
    case 'create': {
      // No header can hold this separator, so that no single create ever shares the key.
      const idempotencyKey = request.idempotencyKey && `${request.idempotencyKey}\u0001${index}`
      return done(
        201,
        await documents.create(access, collection, operation.item, { consistency, idempotencyKey }),
      )
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
    case 'delete':
      await documents.remove(access, { collection, id: operation.id }, { consistency, precondition })
      return { status: 200, answer: { id: operation.id } }
    default:
      throw invalid(`body.operations[${index}].op`, 'must be one of create, put, patch, delete')
  }
}

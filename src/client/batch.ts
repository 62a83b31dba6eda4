import type { BatchOperation, BatchResult } from './types.js'

/** Batches as the wire has them. */
export interface BatchAnswer<T> {
  data: WireResult<T>[]
}

interface WireResult<T> {
  status: number
  id?: string
  version?: number
  data?: T
  code?: string
  error?: string
  message?: string
  details?: { field: string; message: string }[]
}

export function batchBody<T>(operations: readonly BatchOperation<T>[]): object {
  return {
    operations: operations.map((operation) => {
      if (operation.op === 'create') return operation
      const { ifVersion, ...rest } = operation
      return ifVersion === undefined ? rest : { ...rest, if_version: ifVersion }
    }),
  }
}

export function batchResult<T>(result: WireResult<T>): BatchResult<T> {
  const { status, id = '', version, data, code, error, message, details } = result
  return status < 400
    ? {
        ok: true,
        status,
        id,
        ...(version !== undefined && { version }),
        ...(data !== undefined && { item: data }),
      }
    : {
        ok: false,
        status,
        code: code ?? `HTTP_${status}`,
        message: message ?? error ?? '',
        ...(details && { details }),
      }
}

/**
 * Whether doing a batch twice is doing it once. A create is done once by its key, and everything else again: what is
 * deleted before it would then be deleted behind it.
 */
export function isRepeatable<T>(operations: readonly BatchOperation<T>[]): boolean {
  const created = new Set(
    operations.map((operation) => (operation.op === 'create' ? operation.item.id : undefined)),
  )
  return operations.every(
    (operation) =>
      operation.op === 'create' ||
      (operation.op !== 'patch' && operation.ifVersion === undefined && !created.has(operation.id)),
  )
}

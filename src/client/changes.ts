import type { CallOptions, Transport } from './http.js'
import { selectionQuery } from './query.js'
import type { ChangeEvent, Selection } from './types.js'

export interface ChangesQuery extends Selection {
  /** The position to go on from; without one the answer holds the present one and no changes. */
  since?: string | undefined
  /** 1 to 1,000, 100 by default. */
  limit?: number | undefined
  /** Seconds to wait for a change when there is none: 0, the default, to 60. */
  wait?: number | undefined
}

export interface ChangesPage<T> {
  changes: ChangeEvent<T>[]
  /** The next `since`; it moves on also when nothing matched. */
  position: string
  hasMore: boolean
}

/** A change as the wire has it, in events and in pages alike. */
export interface WireChange<T> {
  type: ChangeEvent<T>['type']
  collection: string
  data: T
  timestamp: string
  version: number
  position?: string
  snapshot?: boolean
}

/** @throws DualstoreClientError POSITION_GONE, whose `extra` has `reason` and the `position` to go on from */
export async function readChanges<T>(
  transport: Transport,
  collection: string,
  query: ChangesQuery,
  options: CallOptions,
): Promise<ChangesPage<T>> {
  const { since, limit, wait, ...selection } = query
  const { body } = await transport.json({
    ...options,
    path: [collection, 'changes'],
    query: { ...selectionQuery(selection), since, limit, wait },
    // The server is silent while it waits.
    ...(wait !== undefined && { timeoutMs: (options.timeoutMs ?? transport.timeoutMs) + wait * 1000 }),
  })
  const { data, position, has_more } = body as { data: WireChange<T>[]; position: string; has_more: boolean }
  return { changes: data.map((change) => changeEvent(change, change.position)), position, hasMore: has_more }
}

/** @param position Where a client that has seen it may go on; undefined when it may not. */
export function changeEvent<T>(wire: WireChange<T>, position: string | undefined): ChangeEvent<T> {
  const { type, collection, data, version, timestamp, snapshot = false } = wire
  return { type, collection, item: data, version, timestamp, position, snapshot }
}

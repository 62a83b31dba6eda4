import type { Item } from './documents.js'

/** A change as a client was told of it. */
export interface Told {
  type: string
  collection: string
  data: Item
  version: number
  timestamp: string
  position: number
}

/** A promise of the server: everything up to `position` had been sent when `count` changes had come. */
export interface Claim {
  position: number
  count: number
}

/**
 * What a client was told without a break of its own: from a position on, or from a snapshot on. Reconnects with
 * the last position go on in the same stretch.
 */
export interface Stretch {
  /** Changes behind this position are due. undefined while nothing has told it. */
  start: number | undefined
  told: Told[]
  claims: Claim[]
  /** What the snapshot held, and the position it is of, when the stretch began with one that was completed. */
  snapshot?: { position: number; items: ReadonlyMap<string, Item> }
}

export const keyOf = (collection: string, id: unknown): string => `${collection}/${String(id)}`

/** The number of a position such as "5f0c2a91-4711". */
export function numberOf(position: string): number {
  const number = Number(position.slice(position.indexOf('-') + 1))
  if (!Number.isSafeInteger(number)) throw new Error(`${position} is no position`)
  return number
}

/** The documents that a client of a snapshot holds while it comes in. */
export class Snapshot {
  readonly items = new Map<string, Item>()
  readonly faults: string[] = []

  /** An event without an id: a document of the snapshot, or a change of one that was already sent. */
  apply(event: { type: string; collection: string; data: Item; snapshot?: boolean }): void {
    const key = keyOf(event.collection, event.data.id)
    if (event.snapshot !== true) this.faults.push(`${key} comes without "snapshot"`)
    const held = this.items.has(key)
    if (event.type === 'insert' ? held : !held) this.faults.push(`${event.type} of ${key}, held: ${held}`)
    if (event.type === 'delete') this.items.delete(key)
    else this.items.set(key, event.data)
  }
}

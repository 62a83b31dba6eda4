import { Readable } from 'node:stream'
import { DualstoreError } from '../errors.js'
import type { Item } from '../schemas/item.js'
import type { DocumentService } from '../services/documents.js'
import type { ListingService } from '../services/listing.js'
import type { Access } from '../services/principal.js'
import type { OnConflict, TransferService } from '../services/transfer.js'
import type { Fields, Sink } from './contract.js'
import { inTurns } from './in-turns.js'

export interface Services {
  documents: DocumentService
  listing: ListingService
  transfer: TransferService
}

/** What jsonb can hold at most; a line of an import is not limited further here. */
const MAX_LINE_BYTES = 256 * 1024 * 1024
/** Documents read at once; the pool is shared with others. */
const CONCURRENCY = 4
const PAGE = 1000

/** Writes through the services of this process, like any other client of them. */
export function createServiceSink({ documents, listing, transfer }: Services, access: Access): Sink {
  const importItems = (collection: string, items: readonly Item[], onConflict: OnConflict) =>
    transfer.importNdjson(access, collection, ndjson(items), { onConflict, maxLineBytes: MAX_LINE_BYTES })

  return {
    where: 'the local stores',
    add: (collection, items) => importItems(collection, items, 'skip'),
    replace: (collection, items) => importItems(collection, items, 'replace'),
    find: (collection, ids) =>
      findEach(ids, CONCURRENCY, async (id) => {
        const { text } = await documents.get(access, { collection, id })
        return JSON.parse(text) as Item
      }),
    remove: async (collection, id) =>
      (await unlessMissing(documents.remove(access, { collection, id }))) !== undefined,
    async *pages(collection, { filter, fields }) {
      let cursor: string | undefined
      do {
        const page = await listing.list(access, collection, {
          filter,
          fields,
          sort_by: 'id',
          sort_order: 'asc',
          limit: PAGE,
          offset: 0,
          count: 'none',
          ...(cursor !== undefined && { cursor }),
        })
        yield page.texts.map((text) => JSON.parse(text) as Fields)
        cursor = page.pagination.next_cursor ?? undefined
      } while (cursor !== undefined)
    },
  }
}

/** Items as the lines of an import, one at a time. */
export function ndjson(items: readonly Item[]): Readable {
  return Readable.from(
    (function* () {
      for (const item of items) yield Buffer.from(`${JSON.stringify(item)}\n`)
    })(),
    { objectMode: false },
  )
}

/** Reads documents by id, some at once; those that are missing are left out. */
export async function findEach(
  ids: readonly string[],
  concurrency: number,
  read: (id: string) => Promise<Item>,
): Promise<Map<string, Item>> {
  const items = await inTurns(ids, concurrency, (id) => unlessMissing(read(id)))
  return new Map(items.flatMap((item) => (item === undefined ? [] : [[item.id, item]])))
}

/** The value, or undefined when the document is missing. */
export async function unlessMissing<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading
  } catch (error) {
    if (error instanceof DualstoreError && error.code === 'NOT_FOUND') return undefined
    throw error
  }
}

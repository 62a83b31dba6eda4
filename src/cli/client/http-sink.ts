import type { Fields, Sink } from '../../server/ingest/contract.js'
import { findEach, ndjson, unlessMissing } from '../../server/ingest/service-sink.js'
import type { Item } from '../../server/schemas/item.js'
import type { ImportReport, OnConflict } from '../../server/services/transfer.js'
import { type HttpRequest, request, type ServerAddress, unreachable } from './http.js'
import { apiPrefix } from './remote.js'

/** Requests under way at once. */
const CONCURRENCY = 8
const PAGE = 1000
/** A batch is small; a server that takes longer is away. */
const TIMEOUT_MS = 60_000

interface Page {
  data: Fields[]
  pagination: { next_cursor: string | null }
}

/** Writes through the HTTP API of a running server. */
export async function createHttpSink(server: ServerAddress): Promise<Sink> {
  const prefix = await apiPrefix(server)
  const path = (collection: string, ...rest: string[]) =>
    [prefix, ...[collection, ...rest].map(encodeURIComponent)].join('/')

  const call = async <T>(to: string, options?: HttpRequest): Promise<T> => {
    const response = await request(server, to, { ...options, signal: AbortSignal.timeout(TIMEOUT_MS) })
    return (await response.json().catch((error: unknown) => {
      throw unreachable(server.url, error)
    })) as T
  }
  const importItems = async (collection: string, items: readonly Item[], onConflict: OnConflict) => {
    const query = { on_conflict: onConflict }
    const sent = { method: 'POST', query, stream: ndjson(items) }
    return (await call<{ data: ImportReport }>(path(collection, 'import'), sent)).data
  }

  return {
    where: server.url,
    add: (collection, items) => importItems(collection, items, 'skip'),
    replace: (collection, items) => importItems(collection, items, 'replace'),
    find: (collection, ids) =>
      findEach(ids, CONCURRENCY, async (id) => (await call<{ data: Item }>(path(collection, id))).data),
    async remove(collection, id) {
      return (await unlessMissing(call(path(collection, id), { method: 'DELETE' }))) !== undefined
    },
    async *pages(collection, { filter, fields }) {
      let cursor: string | undefined
      do {
        const query = { filter, fields, sort_by: 'id', sort_order: 'asc', limit: PAGE, count: 'none', cursor }
        const page = await call<Page>(path(collection), { query })
        yield page.data
        cursor = page.pagination.next_cursor ?? undefined
      } while (cursor !== undefined)
    },
  }
}

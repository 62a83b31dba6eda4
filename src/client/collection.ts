import { type BatchAnswer, batchBody, batchResult, isRepeatable } from './batch.js'
import {
  type CreateOptions,
  callOf,
  conditional,
  createHeaders,
  type PutOptions,
  type ReadOptions,
  readHeaders,
  type WriteOptions,
  writeHeaders,
} from './call-options.js'
import { type ChangesPage, type ChangesQuery, readChanges } from './changes.js'
import { DualstoreClientError } from './errors.js'
import type { CallOptions, JsonAnswer, Transport } from './http.js'
import { jsonLines } from './lines.js'
import { listQuery, selectionQuery } from './query.js'
import type {
  BatchOperation,
  BatchResult,
  Deleted,
  JsonPatch,
  ListQuery,
  MergePatch,
  NewItem,
  Page,
  SearchSelection,
  Versioned,
  Written,
} from './types.js'

/** How many documents `iterate` asks for at once. */
const PAGE = 200

/** The documents of one collection. */
export type Collection<T> = ReturnType<typeof createCollection<T>>

export function createCollection<T>(transport: Transport, name: string) {
  const at = (id: string) => [name, id]

  async function list(query: ListQuery = {}, options: ReadOptions = {}): Promise<Page<T>> {
    const answer = await transport.json({
      ...callOf(options),
      path: [name],
      query: listQuery(query),
      headers: readHeaders(options),
    })
    const { data, pagination } = answer.body as { data: T[]; pagination: WirePagination }
    return {
      items: data,
      total: pagination.total ?? undefined,
      hasMore: pagination.has_more,
      nextCursor: pagination.next_cursor ?? undefined,
    }
  }

  return {
    name,

    /** The document, or undefined when there is none. */
    async get(id: string, options: ReadOptions = {}): Promise<Versioned<T> | undefined> {
      const answer = await unlessNotFound(
        transport.json({ ...callOf(options), path: at(id), headers: readHeaders(options) }),
      )
      return answer && versioned<T>(answer)
    },

    /** One page. */
    list,

    /** Every document that is selected, page by page as it is asked for; neither skips nor repeats meanwhile. */
    async *iterate(
      query: Omit<ListQuery, 'cursor' | 'count'> = {},
      options: ReadOptions = {},
    ): AsyncGenerator<T> {
      for (let cursor: string | undefined, offset = query.offset; ; offset = undefined) {
        const page = await list({ limit: PAGE, ...query, offset, cursor, count: 'none' }, options)
        yield* page.items
        if (page.nextCursor === undefined) return
        cursor = page.nextCursor
      }
    },

    /** Creates a document. Repeated after any failure that may pass: the Idempotency-Key makes it one creation. */
    async create(item: NewItem<T>, options: CreateOptions = {}): Promise<Written<T>> {
      const headers = createHeaders(options)
      return written(
        await transport.json({ ...callOf(options), method: 'POST', path: [name], headers, body: item }),
      )
    },

    /** Creates or replaces a document. */
    async put(id: string, item: NewItem<T>, options: PutOptions = {}): Promise<Written<T>> {
      return written(
        await transport.json({
          ...callOf(options),
          method: 'PUT',
          path: at(id),
          headers: writeHeaders(options),
          body: item,
          repeatable: conditional(options) ? 'refused' : 'always',
        }),
      )
    },

    /**
     * Changes parts of a document: an object is a merge patch (RFC 7396), an array a JSON patch (RFC 6902). Not
     * repeated when nobody can tell whether it was made.
     */
    async patch(
      id: string,
      patch: MergePatch<T> | JsonPatch,
      options: WriteOptions = {},
    ): Promise<Written<T>> {
      const type = Array.isArray(patch) ? 'application/json-patch+json' : 'application/merge-patch+json'
      return written(
        await transport.json({
          ...callOf(options),
          method: 'PATCH',
          path: at(id),
          headers: { ...writeHeaders(options), 'content-type': type },
          body: patch,
          repeatable: 'refused',
        }),
      )
    },

    async delete(id: string, options: WriteOptions = {}): Promise<Deleted> {
      const answer = await unlessNotFound(
        transport.json({
          ...callOf(options),
          method: 'DELETE',
          path: at(id),
          headers: writeHeaders(options),
          repeatable: conditional(options) ? 'refused' : 'always',
        }),
      )
      return { deleted: answer !== undefined, position: answer && positionOf(answer) }
    },

    /**
     * Runs up to 1,000 operations, each with a result of its own. The whole batch is repeated after a broken
     * connection when doing it twice is doing it once: without patches, without `ifVersion`, and without creates of
     * an id that another operation names.
     */
    async batch(
      operations: readonly BatchOperation<T>[],
      options: CreateOptions = {},
    ): Promise<BatchResult<T>[]> {
      const answer = await transport.json({
        ...callOf(options),
        method: 'POST',
        path: [name, 'batch'],
        headers: createHeaders(options),
        body: batchBody(operations),
        repeatable: isRepeatable(operations) ? 'always' : 'refused',
      })
      return (answer.body as BatchAnswer<T>).data.map(batchResult)
    },

    /** Every document that is selected in one answer, by ascending id, read only as fast as it is taken. */
    async *export(selection: SearchSelection = {}, options: CallOptions = {}): AsyncGenerator<T> {
      const answer = await transport.open({
        ...callOf(options),
        path: [name, 'export'],
        query: selectionQuery(selection),
      })
      yield* jsonLines(answer) as AsyncGenerator<T>
    },

    /** One page of changes behind a position, for programs that poll; `wait` holds the call until there is one. */
    changes(query: ChangesQuery = {}, options: CallOptions = {}): Promise<ChangesPage<T>> {
      return readChanges(transport, name, query, options)
    },
  }
}

interface WirePagination {
  total: number | null
  has_more: boolean
  next_cursor: string | null
}

/** No document is an answer; no such collection, or a wrong path, is not. */
async function unlessNotFound(call: Promise<JsonAnswer>): Promise<JsonAnswer | undefined> {
  try {
    return await call
  } catch (error) {
    if (error instanceof DualstoreClientError && error.code === 'NOT_FOUND') return undefined
    throw error
  }
}

function versioned<T>({ headers, body }: JsonAnswer): Versioned<T> {
  // That of a compressed answer names the encoding; what compresses on the way makes it weak.
  const [, version] = /^(?:W\/)?"(\d+)(?:-\w+)?"$/.exec(headers.get('etag') ?? '') ?? []
  if (version === undefined) {
    throw new DualstoreClientError('INVALID_ANSWER', 'the answer has no ETag with a version')
  }
  return { item: (body as { data: T }).data, version: Number(version) }
}

function written<T>(answer: JsonAnswer): Written<T> {
  return { ...versioned<T>(answer), position: positionOf(answer), created: answer.status === 201 }
}

function positionOf({ headers }: JsonAnswer): string | undefined {
  return headers.get('x-dualstore-position') ?? undefined
}

import type { Pool } from '../db/pool.js'
import { DualstoreError, invalid } from '../errors.js'
import { both, everything, type Filter } from '../filter/ast.js'
import { decodeCursor, encodeCursor, fingerprint, parseSort } from '../filter/cursor.js'
import { parseFilter } from '../filter/parse.js'
import type { LegacyDocument, Mirror } from '../mirror/contract.js'
import type { ListQuery, Pagination, SelectionQuery } from '../schemas/wire.js'
import {
  estimateSelected,
  type ListedDocument,
  listDocuments,
  type PageRequest,
  type Selection,
} from '../store/list.js'
import type { Consistency } from './consistency.js'
import { type Fallback, type ReadOptions, requireMirror, type Source } from './fallback.js'
import { createKeptLists } from './kept-lists.js'
import { listMirror } from './mirror-listing.js'
import { type Access, isRestricted } from './principal.js'
import { parseProjection, project } from './projection.js'
import type { Registry } from './registry.js'
import { requireScope } from './rights.js'
import { narrowed } from './rows.js'
import { requireStorable } from './storable.js'
import { parseTime } from './time.js'

/** One page of a list. */
export interface Page extends Source {
  /** Items as JSON text. */
  texts: string[]
  pagination: Pagination
}

export interface ListingServiceOptions {
  pool: Pool
  registry: Registry
  consistency: Consistency
  fallback: Fallback
  mirror: Mirror | undefined
  /** Most memory for pages that are kept, in bytes; totals are kept in any case. 0: none. Unset: as much as is sensible. */
  keptPagesMaxBytes?: number | undefined
}

export type ListingService = ReturnType<typeof createListingService>

export function createListingService(options: ListingServiceOptions) {
  const { pool, registry, consistency, fallback, mirror, keptPagesMaxBytes } = options
  const kept = createKeptLists({ pool, maxBytes: keptPagesMaxBytes })
  const choose = async ({ principal }: Access, name: string, query: SelectionQuery) => {
    requireScope(principal, 'read', name)
    const { definition, version } = await registry.get(name)
    if (query.q !== undefined) requireStorable(query.q, 'query.q')
    const filter = narrowed(filterOf(query), principal)
    const selection = { collection: definition.name, schema: definition.schema, filter, text: query.q }
    return { selection, definition, version }
  }

  return {
    /** Which documents a request's parameters select among those it may see. @throws INVALID_REQUEST, INVALID_FILTER, FORBIDDEN */
    select: async (access: Access, name: string, query: SelectionQuery): Promise<Selection> =>
      (await choose(access, name, query)).selection,

    /** The same as a filter alone, without `q`, for every collection. @throws INVALID_REQUEST, INVALID_FILTER */
    filterOf: ({ principal }: Access, query: SelectionQuery): Filter => narrowed(filterOf(query), principal),

    /** One page of a collection's documents. @throws INVALID_REQUEST, INVALID_FILTER, INVALID_CURSOR, FORBIDDEN */
    async list(access: Access, name: string, query: ListQuery, read: ReadOptions = {}): Promise<Page> {
      const { selection, definition, version } = await choose(access, name, query)
      // The planner's guess is made from statistics of all documents, those outside the rows too.
      const count = query.count === 'estimated' && isRestricted(access.principal) ? 'exact' : query.count
      const sort = parseSort(query.sort_by, query.sort_order)
      const fields = query.fields === undefined ? undefined : parseProjection(query.fields)
      const selected = fingerprint([selection.collection, selection.filter, selection.text ?? null])
      const after = query.cursor === undefined ? undefined : decodeCursor(query.cursor, sort, selected)
      const { limit } = query
      // A cursor says where to start; an offset beside it would have to be added to something no longer known.
      const offset = after === undefined ? query.offset : 0
      if (read.waitFor !== undefined) await consistency.waitFor(read.waitFor, read.from ?? 'postgres')

      // One row more than asked for tells whether there is a next page, whatever `count` says.
      const request: PageRequest = { sort, limit: limit + 1, offset, after }
      const { answer, ...source } = await fallback.read(read, {
        postgres: () => readPage({ selection, version }, request, count),
        mirror: (store) => listMirror(store, definition, selection, request),
        scans: true,
      })
      const { rows, total } = answer
      const shown = rows.slice(0, limit)
      const last = shown.at(-1)
      const more = rows.length > limit
      return {
        texts: shown.map(({ text }) => (fields === undefined ? text : project(text, fields))),
        pagination: {
          total: query.count === 'none' ? null : total,
          limit,
          offset,
          has_more: more,
          next_cursor: more && last !== undefined ? encodeCursor(sort, selected, last.key) : null,
        },
        ...source,
      }
    },

    /** The newest documents of a collection as the mirror holds them. @throws MIRROR_UNAVAILABLE, FORBIDDEN */
    async recentRaw({ principal }: Access, name: string, limit: number): Promise<LegacyDocument[]> {
      requireScope(principal, 'read', name)
      // Documents of other programs are among them: rows speak of items, which those are not.
      if (isRestricted(principal)) {
        throw new DualstoreError('FORBIDDEN', 'your key is restricted to some documents; these are raw ones')
      }
      return requireMirror(mirror).recent((await registry.get(name)).definition, limit)
    },
  }

  async function readPage(
    { selection, version }: { selection: Selection; version: number },
    request: PageRequest,
    count: ListQuery['count'],
  ) {
    const list = await kept.of(selection, version)
    const [rows, total] = await Promise.all([
      list.page(
        JSON.stringify(request),
        () => listDocuments(pool, selection, request),
        (page) => page.reduce((sum, { text }) => sum + text.length + 200, 0),
      ),
      count === 'exact' ? list.total() : count === 'estimated' ? estimateSelected(pool, selection) : 0,
    ])
    return { rows, total } satisfies { rows: ListedDocument[]; total: number }
  }
}

/** The legacy parameters are shorthands in the filter language; all of them must hold. */
function filterOf(query: SelectionQuery): Filter {
  let filter: Filter = query.filter === undefined ? everything : parseFilter(query.filter, 'query.filter')
  if (query.session_id !== undefined) {
    requireStorable(query.session_id, 'query.session_id')
    filter = both(filter, { op: 'in', path: ['session_id'], values: [query.session_id] })
  }
  if (query.created_after !== undefined) {
    filter = both(filter, {
      op: 'gte',
      path: ['created_at'],
      bound: isoTime(query.created_after, 'created_after'),
    })
  }
  if (query.created_before !== undefined) {
    filter = both(filter, {
      op: 'lte',
      path: ['created_at'],
      bound: isoTime(query.created_before, 'created_before'),
    })
  }
  return filter
}

/** A time as items have it, so that comparing the texts compares the times. */
function isoTime(text: string, parameter: string): string {
  const time = parseTime(text)
  if (time !== undefined) return new Date(time).toISOString()
  throw invalid(
    `query.${parameter}`,
    'must be an ISO 8601 time such as 2026-01-31T12:00:00Z (write + as %2B in a URL)',
  )
}

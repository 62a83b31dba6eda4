import { type Queryable, query } from '../db/pool.js'
import { WITH_WHOLE_LOG } from '../db/whole-log.js'
import type { Filter } from '../filter/ast.js'
import type { Sort, SortKey } from '../filter/cursor.js'
import { filterSql } from './filter-sql.js'
import { Params } from './params.js'
import { sortSql } from './sort-sql.js'

/** Which documents of one collection. */
export interface Selection {
  collection: string
  /** The collection's JSON Schema: it tells which fields cannot be arrays. */
  schema: unknown
  filter: Filter
  /** Words that the strings of an item must contain, as a web search takes them. */
  text: string | undefined
}

export interface PageRequest {
  sort: Sort
  limit: number
  offset: number
  /** Start behind the row with this key. */
  after: SortKey | undefined
}

/** A row of a page: its item as JSON text, and its place in the order, read when it is asked for. */
export interface ListedDocument {
  text: string
  key: SortKey
}

/** Up to `limit` documents in order. */
export async function listDocuments(
  on: Queryable,
  selection: Selection,
  page: PageRequest,
): Promise<ListedDocument[]> {
  const params = new Params()
  const where = selectionSql(selection, params)
  const { orderBy, key, after } = sortSql(page.sort, params)
  const behind = page.after === undefined ? '' : ` AND ${after(page.after)}`
  const rows = await query<{ text: string; key: string }>(
    on,
    `SELECT d.item::text AS text, to_json(${key})::text AS key FROM dualstore.documents d WHERE ${where}${behind}
     ORDER BY ${orderBy} LIMIT ${params.add(page.limit)} OFFSET ${params.add(page.offset)}`,
    params.values,
  )
  // Only the last row's key goes into a cursor, and the driver's own reading of arrays is slow.
  return rows.map((row) => ({
    text: row.text,
    get key() {
      return JSON.parse(row.key) as SortKey
    },
  }))
}

/** Number of documents selected, counted, and the position up to which the log was seen. */
export async function countSelected(
  on: Queryable,
  selection: Selection,
): Promise<{ count: number; position: number }> {
  const params = new Params()
  const where = selectionSql(selection, params)
  const rows = await query<{ count: number; position: number }>(
    on,
    `SELECT count(*) AS count, dualstore.log_head() AS position
     FROM dualstore.documents d WHERE ${where} AND ${WITH_WHOLE_LOG}`,
    params.values,
  )
  return rows[0] ?? { count: 0, position: 0 }
}

/** The planner's estimate of how many documents are selected: cheap, and as good as the last ANALYZE. */
export async function estimateSelected(on: Queryable, selection: Selection): Promise<number> {
  const params = new Params()
  const where = selectionSql(selection, params)
  const rows = await query<{ 'QUERY PLAN': [{ Plan: { 'Plan Rows': number } }] }>(
    on,
    `EXPLAIN (FORMAT JSON) SELECT FROM dualstore.documents d WHERE ${where}`,
    params.values,
  )
  return rows[0]?.['QUERY PLAN'][0].Plan['Plan Rows'] ?? 0
}

/** The selection as a condition on rows `d`. */
export function selectionSql(selection: Selection, params: Params): string {
  const parts = [
    `d.collection = ${params.add(selection.collection)}`,
    filterSql(selection.filter, selection.schema, params),
  ]
  if (selection.text !== undefined) {
    const words = `websearch_to_tsquery('simple', ${params.add(selection.text)})`
    parts.push(`dualstore.searched(d.item) @@ ${words}`)
  }
  return parts.join(' AND ')
}

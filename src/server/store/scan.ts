import { type Queryable, query } from '../db/pool.js'
import type { StoredDocument } from './documents.js'
import { type Selection, selectionSql } from './list.js'
import { Params } from './params.js'

const PAGE_SIZE = 1000
/** Stored bytes, compressed as they are, of the documents in one page: large ones must not pile up in memory. */
const PAGE_BYTES = 4 * 1024 * 1024

/** Some documents by ascending id, exactly as they were at a position of the log. */
export interface ScannedPage {
  position: number
  documents: StoredDocument[]
}

/**
 * The selected documents behind an id, as many as fit into a page; one at least, unless there is none.
 * @param upTo No further than this id.
 * @param limit No more than this.
 */
export async function scanPage(
  on: Queryable,
  selection: Selection,
  after: string,
  { upTo, limit = PAGE_SIZE }: { upTo?: string | undefined; limit?: number } = {},
): Promise<ScannedPage> {
  const params = new Params()
  const bound = upTo === undefined ? '' : ` AND d.id <= ${params.add(upTo)}`
  const where = selectionSql(selection, params) + bound
  const rows = await query<StoredDocument & { position: number }>(
    on,
    `WITH h AS MATERIALIZED (SELECT dualstore.log_head() AS position)
     SELECT h.position, d.id, d.version, d.text FROM h LEFT JOIN LATERAL (
       SELECT id, version, item::text AS text FROM (
         SELECT *, sum(pg_column_size(item)) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - pg_column_size(item) AS before
         FROM (
           SELECT d.id, d.version, d.item FROM dualstore.documents d
           WHERE ${where} AND d.id > ${params.add(after)} ORDER BY d.id LIMIT ${params.add(limit)}
         ) d
       ) d WHERE before < ${params.add(PAGE_BYTES)}
     ) d ON true ORDER BY d.id`,
    params.values,
  )
  return { position: rows[0]?.position ?? 0, documents: rows.filter(({ id }) => id !== null) }
}

/**
 * Every selected document by ascending id, in pages. No transaction is held open between pages, however slow the
 * reader is: a document that is there all the time comes exactly once, one that comes or goes meanwhile may or may
 * not be seen.
 * @param after Starts behind this id.
 * @param upTo Goes no further than this id.
 */
export async function* scanDocuments(
  on: Queryable,
  selection: Selection,
  after = '',
  upTo?: string,
): AsyncGenerator<StoredDocument[]> {
  for (let last = after; ; ) {
    const { documents } = await scanPage(on, selection, last, { upTo })
    // A page that its bytes have cut short holds one document at least, so an empty one is the end.
    if (documents.length === 0) return
    yield documents
    last = documents.at(-1)?.id ?? last
  }
}

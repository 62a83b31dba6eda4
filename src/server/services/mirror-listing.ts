import { invalid } from '../errors.js'
import { compareCodePoints } from '../filter/compare.js'
import { type SortKey, sortKind } from '../filter/cursor.js'
import { matches } from '../filter/matches.js'
import type { Mirror } from '../mirror/contract.js'
import type { CollectionDefinition } from '../schemas/collection.js'
import type { Item } from '../schemas/item.js'
import type { ListedDocument, PageRequest, Selection } from '../store/list.js'

/** How far into a list the mirror is read: the rows kept while it is scanned. */
const MAX_ROWS = 10_000

/**
 * A page of a list from the mirror, by the same filter language: the collection is scanned once and only the rows of
 * the page are kept. Slower than PostgreSQL and independent of it.
 * @throws INVALID_REQUEST for what only PostgreSQL can do: full text, and orders by other than the server's fields.
 */
export async function listMirror(
  mirror: Mirror,
  definition: CollectionDefinition,
  selection: Selection,
  page: PageRequest,
): Promise<{ rows: ListedDocument[]; total: number }> {
  const { sort, after, offset, limit } = page
  if (sortKind(sort) === 'field') {
    throw invalid('query.sort_by', 'must be created_at, updated_at or id when the mirror is read')
  }
  if (offset + limit > MAX_ROWS) {
    throw invalid(
      'query.offset',
      `and limit must not exceed ${MAX_ROWS} together when the mirror is read; use cursor`,
    )
  }
  const direction = sort.order === 'asc' ? 1 : -1
  const compare = (left: SortKey, right: SortKey) => direction * compareKeys(left, right)
  const keep = offset + limit
  let rows: { item: Item; key: SortKey }[] = []
  let total = 0
  for await (const item of selectMirrored(mirror, definition, selection)) {
    total++
    const key = keyOf(item, sort.path[0] ?? 'id')
    if (after !== undefined && compare(key, after) <= 0) continue
    rows.push({ item, key })
    // Sorted now and then rather than at each row; never more than twice what is kept.
    if (rows.length >= keep * 2)
      rows = rows.sort((left, right) => compare(left.key, right.key)).slice(0, keep)
  }
  rows.sort((left, right) => compare(left.key, right.key))
  return {
    rows: rows.slice(offset, keep).map(({ item, key }) => ({ text: JSON.stringify(item), key })),
    total,
  }
}

/**
 * Every selected item as the mirror holds it, by ascending id, in constant memory.
 * @throws INVALID_REQUEST at once, for full text
 */
export function selectMirrored(
  mirror: Mirror,
  definition: CollectionDefinition,
  selection: Selection,
): AsyncIterable<Item> {
  if (selection.text !== undefined) throw invalid('query.q', 'is not available from the mirror')
  return matching(mirror, definition, selection)
}

async function* matching(mirror: Mirror, definition: CollectionDefinition, { filter }: Selection) {
  for await (const { item } of mirror.scan(definition)) if (matches(filter, item)) yield item
}

/** The key that sortSql gives the same document: epoch milliseconds and id, or the id alone. */
function keyOf(item: Item, field: string): SortKey {
  if (field === 'id') return [item.id]
  return [String(Date.parse(field === 'created_at' ? item.created_at : item.updated_at)), item.id]
}

function compareKeys(left: SortKey, right: SortKey): number {
  if (left.length === 2 && left[0] !== right[0]) return Number(left[0]) - Number(right[0])
  return compareCodePoints(left.at(-1) ?? '', right.at(-1) ?? '')
}

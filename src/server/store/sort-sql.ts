import { type Sort, type SortKey, sortKind } from '../filter/cursor.js'
import type { Params } from './params.js'

/** Strings, and arrays and objects as text, are ordered by this many characters, so that a cursor stays short. */
export const SORTED_CHARACTERS = 256

/** An order over the rows `d` of dualstore.documents, in the parts a statement needs. */
export interface SortSql {
  /** Behind ORDER BY. */
  orderBy: string
  /** An expression of type text[]: the row's key, which goes into a cursor. */
  key: string
  /** A boolean expression: the rows behind the one with this key, in this order. */
  after(key: SortKey): string
}

interface Part {
  expression: string
  type: 'bigint' | 'integer' | 'numeric' | 'text'
}

/**
 * Orders by any field of the item, in an order that is total and the same in every database: first what is missing
 * or null, then false, true, numbers, strings by code point, and arrays and objects by their text; ties by id.
 * Descending is exactly the reverse.
 *
 * No part is ever NULL, so that the keyset condition is one plain row comparison.
 */
export function sortSql(sort: Sort, params: Params): SortSql {
  const parts = sortParts(sort, params)
  const compare = sort.order === 'asc' ? '>' : '<'
  return {
    orderBy: parts
      .map(({ expression }) => `${expression} ${sort.order === 'asc' ? 'ASC' : 'DESC'}`)
      .join(', '),
    key: `ARRAY[${parts.map(({ expression }) => `(${expression})::text`).join(', ')}]`,
    after: (key) => {
      const row = parts.map(({ expression }) => expression).join(', ')
      const values = parts.map(({ type }, index) => `${params.add(key[index])}::${type}`).join(', ')
      return `(${row}) ${compare} (${values})`
    },
  }
}

function sortParts(sort: Sort, params: Params): readonly Part[] {
  const id: Part = { expression: 'd.id', type: 'text' }
  switch (sortKind(sort)) {
    case 'id':
      return [id]
    case 'time':
      return [
        { expression: sort.path[0] === 'created_at' ? 'd.created_at' : 'd.updated_at', type: 'bigint' },
        id,
      ]
    case 'field': {
      const path = params.path(sort.path)
      const kind = `jsonb_typeof(d.item #> ${path})`
      const text = `left(coalesce(d.item #>> ${path}, ''), ${SORTED_CHARACTERS})`
      const rank =
        `CASE ${kind} WHEN 'boolean' THEN 1 WHEN 'number' THEN 2 WHEN 'string' THEN 3 ` +
        `WHEN 'array' THEN 4 WHEN 'object' THEN 4 ELSE 0 END`
      return [
        { expression: rank, type: 'integer' },
        {
          expression: `CASE ${kind} WHEN 'number' THEN (d.item #> ${path})::numeric ELSE 0 END`,
          type: 'numeric',
        },
        { expression: `(CASE ${kind} WHEN 'number' THEN '' ELSE ${text} END) COLLATE "C"`, type: 'text' },
        id,
      ]
    }
  }
}

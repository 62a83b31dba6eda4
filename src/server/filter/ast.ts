import type { Json } from '../schemas/item.js'
import type { Path } from './path.js'

/** What a range compares with: numbers with numbers, strings with strings. */
export type Bound = number | string

export type RangeOperator = 'gt' | 'gte' | 'lt' | 'lte'

/**
 * A filter as it is understood: the language of docs/filter.md with its shorthands resolved. `$eq` is `in` with one
 * value; `$ne`, `$nin` and `$nor` are a negation. Whoever interprets it (matches.ts, store/filter-sql.ts) therefore
 * has six forms to get right, and the compiler sees to it that none is left out.
 *
 * The empty `and` is true for every item. `in` without values is true for none.
 */
export type Filter =
  | { op: 'and'; of: readonly Filter[] }
  | { op: 'or'; of: readonly Filter[] }
  | { op: 'not'; of: Filter }
  | { op: 'in'; path: Path; values: readonly Json[] }
  | { op: RangeOperator; path: Path; bound: Bound }
  | { op: 'exists'; path: Path }

/** The filter that every item passes. */
export const everything: Filter = { op: 'and', of: [] }

/** Both filters at once; how a server's own restriction is laid over what a caller asks for. */
export function both(left: Filter, right: Filter): Filter {
  return { op: 'and', of: [left, right] }
}

import type { Bound, Filter, RangeOperator } from '../filter/ast.js'
import type { Path } from '../filter/path.js'
import type { Json } from '../schemas/item.js'
import { mayBeArray } from './may-be-array.js'
import type { Params } from './params.js'

const COMPARE: Readonly<Record<RangeOperator, string>> = { gt: '>', gte: '>=', lt: '<', lte: '<=' }

/**
 * A filter as a boolean SQL expression over the row `d` of dualstore.documents. Paths and values go into `params`;
 * nothing of the filter is in the text. The expression may be NULL where it is not true; a negation is IS NOT TRUE
 * for that reason.
 *
 * A string is compared as `(d.item #>> path) COLLATE "C"`, which is how collection indexes are declared. The arm
 * for elements of an array would keep such an index from being used, so it is left out where the schema says that
 * the field is no array.
 * @param schema The collection's JSON Schema.
 */
export function filterSql(filter: Filter, schema: unknown, params: Params): string {
  switch (filter.op) {
    case 'and':
      return filter.of.length === 0 ? 'TRUE' : join(filter.of, ' AND ', schema, params)
    case 'or':
      return filter.of.length === 0 ? 'FALSE' : join(filter.of, ' OR ', schema, params)
    case 'not':
      return `(${filterSql(filter.of, schema, params)}) IS NOT TRUE`
    case 'exists':
      return `(d.item #> ${params.path(filter.path)}) IS NOT NULL`
    case 'in':
      return isId(filter.path)
        ? idIn(filter.values, params)
        : fieldIn(filter.path, filter.values, schema, params)
    case 'gt':
    case 'gte':
    case 'lt':
    case 'lte':
      return range(filter, schema, params)
  }
}

function join(parts: readonly Filter[], operator: string, schema: unknown, params: Params): string {
  return `(${parts.map((part) => filterSql(part, schema, params)).join(operator)})`
}

// A document's id has a column, which the table holds equal to the item's id: always there, always a string.
function isId(path: Path): boolean {
  return path.length === 1 && path[0] === 'id'
}

/** A time as items hold it; others are compared as the texts they are. */
const TIME = /^\d{4}-(0\d|1[0-2])-([0-2]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z$/

// The server sets a document's times in the item and, as epoch milliseconds, in columns, which have the index.
function timeColumn([field, ...rest]: Path): string | undefined {
  return rest.length === 0 && (field === 'created_at' || field === 'updated_at') ? `d.${field}` : undefined
}

function idIn(values: readonly Json[], params: Params): string {
  const strings = values.filter((value) => typeof value === 'string')
  return strings.length === 0 ? 'FALSE' : equalsAny('d.id', strings, 'text', params)
}

function fieldIn(path: Path, values: readonly Json[], schema: unknown, params: Params): string {
  // PostgreSQL refuses a statement that binds what it does not mention.
  if (values.length === 0) return 'FALSE'
  const strings = values.filter((value) => typeof value === 'string')
  const others = values.filter((value) => typeof value !== 'string' && value !== null)
  const value = `d.item #> ${params.path(path)}`
  const text = `d.item #>> ${params.path(path)}`
  const arms: string[] = []
  if (strings.length > 0) {
    arms.push(`(${isString(value)} AND ${equalsAny(`(${text}) COLLATE "C"`, strings, 'text', params)})`)
  }
  if (others.length > 0) arms.push(equalsAny(`(${value})`, others.map(toJson), 'jsonb', params))
  // Missing and null alike.
  if (values.includes(null)) arms.push(`(${text}) IS NULL`)
  if (mayBeArray(schema, path)) {
    arms.push(anyElement(value, equalsAny('e.value', values.map(toJson), 'jsonb', params)))
  }
  return `(${arms.join(' OR ')})`
}

function equalsAny(
  operand: string,
  values: readonly string[],
  type: 'text' | 'jsonb',
  params: Params,
): string {
  if (values.length === 1) return `${operand} = ${params.add(values[0])}::${type}`
  return `${operand} = ANY (${params.add([...values])}::${type}[])`
}

function range(
  { op, path, bound }: { op: RangeOperator; path: Path; bound: Bound },
  schema: unknown,
  params: Params,
): string {
  const compare = COMPARE[op]
  if (isId(path)) return typeof bound === 'string' ? `d.id ${compare} ${params.add(bound)}::text` : 'FALSE'
  const column = timeColumn(path)
  if (column !== undefined && typeof bound === 'string' && TIME.test(bound)) {
    return `${column} ${compare} ${params.add(Date.parse(bound))}::bigint`
  }
  const place = params.path(path)
  const value = `d.item #> ${place}`
  const text = typeof bound === 'string'
  const limit = text ? `${params.add(bound)}::text` : `${params.add(toJson(bound))}::jsonb`
  const arm = text
    ? `(${isString(value)} AND (d.item #>> ${place}) COLLATE "C" ${compare} ${limit})`
    : `(${isNumber(value)} AND (${value}) ${compare} ${limit})`
  if (!mayBeArray(schema, path)) return arm
  const element = text
    ? `${isString('e.value')} AND (e.value #>> '{}') COLLATE "C" ${compare} ${limit}`
    : `${isNumber('e.value')} AND e.value ${compare} ${limit}`
  return `(${arm} OR ${anyElement(value, element)})`
}

// Said as CASE: the planner guesses that `=` keeps 0.5 % of the rows, and would then fetch and sort all of a large
// session where an index has them in order; of CASE it guesses half. One comparison and not one for each other type,
// because counting a session makes it for every row.
function isString(value: string): string {
  return `CASE jsonb_typeof(${value}) WHEN 'string' THEN TRUE ELSE FALSE END`
}

function isNumber(value: string): string {
  return `CASE jsonb_typeof(${value}) WHEN 'number' THEN TRUE ELSE FALSE END`
}

// The type stands in front as well, so that documents without an array there cost no look into it, and so that an
// index of the few that have one can serve this arm. CASE is what keeps jsonb_array_elements from ever failing.
function anyElement(value: string, condition: string): string {
  const elements = `jsonb_array_elements(CASE jsonb_typeof(${value}) WHEN 'array' THEN ${value} ELSE '[]' END)`
  return `(jsonb_typeof(${value}) = 'array' AND EXISTS (SELECT FROM ${elements} AS e(value) WHERE ${condition}))`
}

function toJson(value: Json): string {
  return JSON.stringify(value)
}

import type { Json } from '../schemas/item.js'
import type { Bound, Filter, RangeOperator } from './ast.js'
import { canonicalJson, compareCodePoints } from './compare.js'
import { resolve } from './path.js'

/**
 * Whether an item passes a filter. Agrees with store/filter-sql.ts on every item; a test holds the two together.
 * A field that holds an array passes when the array itself or one of its elements does. A missing field equals
 * null, and passes every negation.
 */
export function matches(filter: Filter, item: Json): boolean {
  switch (filter.op) {
    case 'and':
      return filter.of.every((part) => matches(part, item))
    case 'or':
      return filter.of.some((part) => matches(part, item))
    case 'not':
      return !matches(filter.of, item)
    case 'exists':
      return resolve(item, filter.path) !== undefined
    case 'in': {
      const found = resolve(item, filter.path) ?? null
      return anyOf(found, wantedIn(filter.values))
    }
    case 'gt':
    case 'gte':
    case 'lt':
    case 'lte': {
      const found = resolve(item, filter.path)
      return found !== undefined && anyOf(found, (value) => inRange(value, filter.op, filter.bound))
    }
  }
}

const tests = new WeakMap<readonly Json[], (value: Json) => boolean>()

/**
 * Whether a value is one of these. Looked up and not compared with each: an array of a million elements would be held
 * against a thousand values for minutes, in which the process answers nobody.
 */
function wantedIn(values: readonly Json[]): (value: Json) => boolean {
  const known = tests.get(values)
  if (known !== undefined) return known
  const simple = new Set(values.filter((value) => !isComposite(value)))
  const composite = new Set(values.filter(isComposite).map(canonicalJson))
  const test = (value: Json) =>
    isComposite(value) ? composite.size > 0 && composite.has(canonicalJson(value)) : simple.has(value)
  tests.set(values, test)
  return test
}

function isComposite(value: Json): boolean {
  return typeof value === 'object' && value !== null
}

function anyOf(value: Json, test: (value: Json) => boolean): boolean {
  return test(value) || (Array.isArray(value) && value.some(test))
}

function inRange(value: Json, op: RangeOperator, bound: Bound): boolean {
  let order: number
  if (typeof value === 'number' && typeof bound === 'number') order = value - bound
  else if (typeof value === 'string' && typeof bound === 'string') order = compareCodePoints(value, bound)
  else return false
  switch (op) {
    case 'gt':
      return order > 0
    case 'gte':
      return order >= 0
    case 'lt':
      return order < 0
    case 'lte':
      return order <= 0
  }
}

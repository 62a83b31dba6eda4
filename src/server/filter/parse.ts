import { invalid } from '../errors.js'
import type { Json } from '../schemas/item.js'
import { type Bound, everything, type Filter, type RangeOperator } from './ast.js'
import { isStorable, type Path, splitPath } from './path.js'

// Bounds that keep one filter from costing more than a request may: statement size, recursion, parameters.
export const MAX_DEPTH = 20
export const MAX_CONDITIONS = 200
export const MAX_VALUES = 1000

const RANGES: Readonly<Record<string, RangeOperator>> = { $gt: 'gt', $gte: 'gte', $lt: 'lt', $lte: 'lte' }
const LOGICAL = ['$and', '$or', '$nor']
const OPERATORS = '$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists and $not'

/**
 * Reads a filter of the language in docs/filter.md, given as an object or as JSON text (the query parameter).
 *
 * Strict: what is not understood is refused, never taken for something else. That is why this does not stand on
 * @ucast/mongo, which reads `{a: {$foo: 1}}` as equality with an object, `{a: {constructor: 1, $gt: 2}}` too, fails
 * on fields named constructor or toString, and gives errors without the place. A walk that finds all of that has
 * read the whole filter already.
 * @param field What the input is called in errors.
 * @throws INVALID_FILTER, naming the place (`filter.metadata.model.$gt`) and what is allowed there.
 */
export function parseFilter(input: unknown, field = 'filter'): Filter {
  const reader = new Reader()
  return reader.document(typeof input === 'string' ? parseJson(input, field) : input, field, 0)
}

function parseJson(text: string, field: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw fault(field, 'must be JSON, such as {"role": "user"}')
  }
}

/** One pass over one input. Every object, array and operator goes through `enter` or `count`, so bounds hold. */
class Reader {
  #conditions = 0

  /** `{field: …, $or: […]}`: every member must hold. */
  document(input: unknown, at: string, depth: number): Filter {
    this.#enter(at, depth)
    if (!isPlainObject(input)) {
      throw fault(at, 'must be an object of fields and $and, $or or $nor, such as {"role": "user"}')
    }
    const parts = Object.entries(input).map(([key, value]) =>
      key.startsWith('$')
        ? this.#logical(key, value, `${at}.${key}`, depth)
        : this.#field(key, value, `${at}.${key}`, depth),
    )
    if (parts.length === 0) this.#count(at)
    return all(parts)
  }

  #logical(key: string, input: unknown, at: string, depth: number): Filter {
    if (!LOGICAL.includes(key)) {
      throw fault(at, `is not known here: allowed are $and, $or and $nor, and under a field ${OPERATORS}`)
    }
    this.#count(at)
    if (!Array.isArray(input) || input.length === 0)
      throw fault(at, 'must be an array of at least one filter')
    const of = input.map((part, index) => this.document(part, `${at}[${index}]`, depth + 1))
    if (key === '$and') return { op: 'and', of }
    return key === '$or' ? { op: 'or', of } : { op: 'not', of: { op: 'or', of } }
  }

  #field(key: string, input: unknown, at: string, depth: number): Filter {
    const split = splitPath(key)
    if ('fault' in split) throw fault(at, split.fault)
    if (isPlainObject(input) && Object.keys(input).some((member) => member.startsWith('$'))) {
      return this.#operators(split.path, input, at, depth)
    }
    return this.#equal(split.path, input, at, depth)
  }

  /** `{$gt: 1, $lt: 5}` under a field: every operator must hold. */
  #operators(path: Path, input: object, at: string, depth: number): Filter {
    return all(Object.entries(input).map(([key, value]) => this.#operator(path, { key, value }, at, depth)))
  }

  #operator(
    path: Path,
    { key, value }: { key: string; value: unknown },
    field: string,
    depth: number,
  ): Filter {
    const at = `${field}.${key}`
    switch (key) {
      case '$eq':
        return this.#equal(path, value, at, depth)
      case '$ne':
        return { op: 'not', of: this.#equal(path, value, at, depth) }
      case '$in':
        return this.#in(path, value, at, depth)
      case '$nin':
        return { op: 'not', of: this.#in(path, value, at, depth) }
      case '$exists': {
        this.#count(at)
        if (typeof value !== 'boolean') throw fault(at, 'must be true or false')
        const exists: Filter = { op: 'exists', path }
        return value ? exists : { op: 'not', of: exists }
      }
      case '$gt':
      case '$gte':
      case '$lt':
      case '$lte':
        this.#count(at)
        return { op: RANGES[key] as RangeOperator, path, bound: bound(value, at) }
      case '$not':
        this.#count(at)
        this.#enter(at, depth + 1)
        if (!isPlainObject(value) || Object.keys(value).length === 0) {
          throw fault(at, `must be an object of operators, such as {"$gt": 5}: ${OPERATORS}`)
        }
        return { op: 'not', of: this.#operators(path, value, at, depth + 1) }
      default:
        throw fault(at, `is not known here: allowed under a field are ${OPERATORS}`)
    }
  }

  #equal(path: Path, input: unknown, at: string, depth: number): Filter {
    this.#count(at)
    return { op: 'in', path, values: [this.#value(input, at, depth)] }
  }

  #in(path: Path, input: unknown, at: string, depth: number): Filter {
    this.#count(at)
    if (!Array.isArray(input) || input.length > MAX_VALUES) {
      throw fault(at, `must be an array of at most ${MAX_VALUES} values`)
    }
    return {
      op: 'in',
      path,
      values: input.map((value, index) => this.#value(value, `${at}[${index}]`, depth)),
    }
  }

  /** Any JSON value that could be stored, checked all the way down. */
  #value(input: unknown, at: string, depth: number): Json {
    if (input === null || typeof input === 'boolean') return input
    if (typeof input === 'number') return finite(input, at)
    if (typeof input === 'string') return storable(input, at)
    this.#enter(at, depth + 1)
    if (Array.isArray(input)) {
      for (const [index, value] of input.entries()) this.#value(value, `${at}[${index}]`, depth + 1)
      return input
    }
    if (!isPlainObject(input)) throw fault(at, 'must be a JSON value')
    for (const [key, value] of Object.entries(input)) {
      const place = `${at}.${key}`
      if (key.startsWith('$')) {
        throw fault(
          place,
          'is an operator inside a value: write it under a dotted path, such as {"a.b": {"$gt": 1}}',
        )
      }
      if (!isStorable(key)) throw fault(place, 'must be a key without NUL characters and unpaired surrogates')
      this.#value(value, place, depth + 1)
    }
    return input as Json
  }

  #enter(at: string, depth: number): void {
    if (depth > MAX_DEPTH) throw fault(at, `is nested too deeply: at most ${MAX_DEPTH} levels are allowed`)
  }

  #count(at: string): void {
    this.#conditions += 1
    if (this.#conditions > MAX_CONDITIONS) {
      throw fault(at, `is one condition too many: at most ${MAX_CONDITIONS} are allowed`)
    }
  }
}

function all(parts: readonly Filter[]): Filter {
  const [first, ...others] = parts
  if (first === undefined) return everything
  return others.length === 0 ? first : { op: 'and', of: parts }
}

function bound(input: unknown, at: string): Bound {
  if (typeof input === 'number') return finite(input, at)
  if (typeof input === 'string') return storable(input, at)
  throw fault(at, 'must be a number or a string')
}

/** JSON text such as 1e400 becomes Infinity, which would be compared as null. */
function finite(input: number, at: string): number {
  if (!Number.isFinite(input)) throw fault(at, 'must be a number between -1.8e308 and 1.8e308')
  return input
}

function storable(input: string, at: string): string {
  if (!isStorable(input)) throw fault(at, 'must be a string without NUL characters and unpaired surrogates')
  return input
}

function isPlainObject(input: unknown): input is object {
  if (typeof input !== 'object' || input === null) return false
  const prototype: unknown = Object.getPrototypeOf(input)
  return prototype === Object.prototype || prototype === null
}

/** Names come from the input: they are shortened and made printable before they go into a message. */
function fault(at: string, message: string): Error {
  const place = at.length > 300 ? `${at.slice(0, 300)}…` : at
  return invalid(place.replace(/[\p{Cc}\p{Surrogate}]/gu, '\u{fffd}'), message, 'INVALID_FILTER')
}

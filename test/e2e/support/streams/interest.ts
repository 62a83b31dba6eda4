import { isDeepStrictEqual } from 'node:util'
import type { Draw } from '../random.js'
import { COLLECTIONS, type Item, SESSIONS } from './documents.js'

/** Plain JavaScript that says whether an item passes: made along with a filter, and knowing nothing of the server. */
type Passes = (item: Item) => boolean

interface RandomFilter {
  json: Record<string, unknown>
  passes: Passes
}

/** What one client follows. */
export interface Interest {
  /** undefined: all, future ones too. */
  collections: readonly string[] | undefined
  /** Asks for the matching documents first. */
  snapshot: boolean
  /** Query parameters that narrow it, as they are sent. */
  query: Readonly<Record<string, string>>
  wants(collection: string, item: Item): boolean
}

export function describeInterest({ collections, snapshot, query }: Interest): string {
  return `${collections?.join(',') ?? 'all'}${snapshot ? ' from=snapshot' : ''} ${JSON.stringify(query)}`
}

/** @param single Of one collection only, as polling has it. */
export function randomInterest(
  draw: Draw,
  { single = false, since }: { single?: boolean; since: Date },
): Interest {
  const snapshot = !single && draw.chance(0.4)
  const collections: readonly string[] | undefined = single
    ? [draw.from(COLLECTIONS)]
    : draw.chance(0.3)
      ? undefined
      : draw.chance(0.4)
        ? [draw.from(COLLECTIONS)]
        : COLLECTIONS.filter(() => draw.chance(0.6))
  const among = collections?.length === 0 ? [COLLECTIONS[0]] : collections
  const query: Record<string, string> = {}
  const conditions: Passes[] = []
  if (draw.chance(0.25)) {
    const session = draw.from(SESSIONS)
    query.session_id = session
    conditions.push((item) => item.session_id === session)
  }
  if (draw.chance(0.5)) {
    const { json, passes } = randomFilter(draw, 2)
    query.filter = JSON.stringify(json)
    conditions.push(passes)
  }
  // Only with a snapshot, which created_after implies. Within the run, so that some documents fail it.
  if (snapshot && draw.chance(0.2)) {
    const from = new Date(since.getTime() + draw.below(10_000)).toISOString()
    query.created_after = from
    conditions.push((item) => typeof item.created_at === 'string' && item.created_at >= from)
  }
  if (draw.chance(0.1)) {
    const until = new Date(since.getTime() + 5000 + draw.below(10_000)).toISOString()
    query.created_before = until
    conditions.push((item) => typeof item.created_at === 'string' && item.created_at <= until)
  }
  return {
    collections: among,
    snapshot,
    query,
    wants: (collection, item) =>
      (among === undefined || among.includes(collection)) && conditions.every((passes) => passes(item)),
  }
}

/** A filter of docs/filter.md and the same in JavaScript. */
function randomFilter(draw: Draw, depth: number): RandomFilter {
  const shape = depth === 0 ? 'field' : draw.from(['field', 'field', '$and', '$or', '$nor', 'fields'])
  if (shape === 'field')
    return randomCondition(draw, draw.from(['tag', 'n', 'meta.k', 'meta.deep.on', 'tag.0']))
  if (shape === 'fields') {
    const parts = ['tag', 'n'].map((path) => randomCondition(draw, path))
    return { json: Object.assign({}, ...parts.map(({ json }) => json)), passes: every(parts) }
  }
  const parts = Array.from({ length: 1 + draw.below(3) }, () => randomFilter(draw, depth - 1))
  const some: Passes = (item) => parts.some(({ passes }) => passes(item))
  return {
    json: { [shape]: parts.map(({ json }) => json) },
    passes: shape === '$and' ? every(parts) : shape === '$or' ? some : (item) => !some(item),
  }
}

const every = (parts: readonly RandomFilter[]): Passes => {
  return (item) => parts.every(({ passes }) => passes(item))
}

function randomCondition(draw: Draw, path: string): RandomFilter {
  const value = () => draw.from<unknown>(['a', 'b', 'x', 5, 12, null, true, ['a', 'b'], '5'])
  const negated = (inner: object, test: Passes): RandomFilter => ({
    json: { [path]: { $not: inner } },
    passes: (item) => !test(item),
  })
  const equals = (wanted: unknown): Passes => {
    return (item) => candidates(at(item, path) ?? null).some((found) => isDeepStrictEqual(found, wanted))
  }
  switch (draw.below(8)) {
    case 0: {
      const wanted = value()
      return { json: { [path]: wanted }, passes: equals(wanted) }
    }
    case 1: {
      const wanted = value()
      return { json: { [path]: { $ne: wanted } }, passes: (item) => !equals(wanted)(item) }
    }
    case 2: {
      const wanted = [value(), value()]
      return { json: { [path]: { $in: wanted } }, passes: (item) => wanted.some((one) => equals(one)(item)) }
    }
    case 3: {
      const wanted = [value(), value()]
      return {
        json: { [path]: { $nin: wanted } },
        passes: (item) => !wanted.some((one) => equals(one)(item)),
      }
    }
    case 4: {
      const there = draw.chance(0.5)
      return {
        json: { [path]: { $exists: there } },
        passes: (item) => (at(item, path) !== undefined) === there,
      }
    }
    case 5: {
      const { inner, test } = randomRange(draw, path)
      return negated(inner, test)
    }
    default: {
      const { inner, test } = randomRange(draw, path)
      return { json: { [path]: inner }, passes: test }
    }
  }
}

/** Numbers compare with numbers and strings with strings. All strings in ranges are ASCII or of one unit each. */
function randomRange(draw: Draw, path: string): { inner: object; test: Passes } {
  const bound = draw.from<number | string>([0, 5, 9.5, 'a', 'b', '5'])
  const operator = draw.from(['$gt', '$gte', '$lt', '$lte'])
  const holds = (found: number | string) =>
    operator === '$gt'
      ? found > bound
      : operator === '$gte'
        ? found >= bound
        : operator === '$lt'
          ? found < bound
          : found <= bound
  return {
    inner: { [operator]: bound },
    test: (item) =>
      candidates(at(item, path)).some(
        (found) => typeof found === typeof bound && holds(found as number | string),
      ),
  }
}

/** A field that holds an array passes as a whole or with one of its elements. */
const candidates = (value: unknown): unknown[] => (Array.isArray(value) ? [value, ...value] : [value])

/** The value under a dotted path; undefined when there is none. */
function at(item: unknown, path: string): unknown {
  let value = item
  for (const segment of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, segment)) return undefined
    value = (value as Record<string, unknown>)[segment]
  }
  return value
}

/** One thing in which two answers differ. */
export interface Difference {
  /** `status`, `header content-type`, `body.data[].role`, `stream connection.data.message`. */
  where: string
  /** missing: only the legacy answer has it; added: only the target's. */
  kind: 'missing' | 'added' | 'changed'
  legacy: unknown
  target: unknown
}

export type Fields = Readonly<Record<string, unknown>>

/**
 * value: as two servers answer for the same documents.
 * shape: the legacy side is an example of the recorded contract; only what the contract fixes must be equal.
 */
export type Mode = 'value' | 'shape'

/** Members that are compared by type: they say who answers and when, or are for people. */
const FREE = /^body\.(name|description|version|uptime|message)$|^stream .*\.(client_id|clientId)$/
/** Members whose text the contract fixes. */
const FIXED =
  /^body\.(success|error|status|pagination\.(limit|offset)|endpoints\..*)$|^stream .*(\.type|\.collection|\.message)$/
/** Times of the servers; what stands in a document under such a name is a value like any other. */
const TIME =
  /^body\.(timestamp|data(\[\])?\.(created_at|updated_at)|\w+\[\]\.(timestamp|metadata\.updated_at))$|^stream .*\.timestamp$/
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

/** Every difference of two JSON values. Times are compared by format, positions in arrays are not told apart. */
export function compareValues(legacy: unknown, target: unknown, where: string, mode: Mode): Difference[] {
  if (legacy === undefined || target === undefined) {
    if (legacy === target) return []
    return [{ where, kind: target === undefined ? 'missing' : 'added', legacy, target }]
  }
  const changed: Difference[] = [{ where, kind: 'changed', legacy, target }]
  if (typeOf(legacy) !== typeOf(target)) return changed
  if (Array.isArray(legacy) && Array.isArray(target)) return compareArrays(legacy, target, where, mode)
  if (isFields(legacy) && isFields(target)) {
    // An object that came out empty is one thing, whatever stands on the other side (defect 4).
    if (Object.keys(legacy).length === 0) return Object.keys(target).length === 0 ? [] : changed
    const names = new Set([...Object.keys(legacy), ...Object.keys(target)])
    return [...names].flatMap((name) =>
      compareValues(own(legacy, name), own(target, name), `${where}.${name}`, mode),
    )
  }
  return alike(legacy, target, where, mode) ? [] : changed
}

function compareArrays(legacy: unknown[], target: unknown[], where: string, mode: Mode): Difference[] {
  if (mode === 'shape') {
    const [example] = legacy
    return example === undefined
      ? []
      : target.flatMap((item) => compareValues(example, item, `${where}[]`, mode))
  }
  const both = Math.min(legacy.length, target.length)
  const differences = legacy
    .slice(0, both)
    .flatMap((item, index) => compareValues(item, target[index], `${where}[]`, mode))
  return legacy.length === target.length ? differences : [lengths(legacy, target, where), ...differences]
}

/** That two arrays have not the same number of items. */
export function lengths(legacy: readonly unknown[], target: readonly unknown[], where: string): Difference {
  return { where: `${where}.length`, kind: 'changed', legacy: legacy.length, target: target.length }
}

function alike(legacy: unknown, target: unknown, where: string, mode: Mode): boolean {
  if (FREE.test(where)) return true
  if (TIME.test(where)) return !ISO.test(String(legacy)) || ISO.test(String(target))
  return mode === 'shape' && !FIXED.test(where) ? true : legacy === target
}

function typeOf(value: unknown): string {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'array' : typeof value
}

export function isFields(value: unknown): value is Fields {
  return typeOf(value) === 'object'
}

export function isEmpty(value: unknown): boolean {
  return isFields(value) && Object.keys(value).length === 0
}

/** A member of an object, or undefined: a body may be anything. */
export function member(value: unknown, ...path: readonly string[]): unknown {
  return path.reduce<unknown>((at, name) => (isFields(at) ? own(at, name) : undefined), value)
}

/** The items of a list's answer; none when it is no list. */
export function itemsOf(body: unknown): Fields[] {
  const data = member(body, 'data')
  return Array.isArray(data) ? data.filter(isFields) : []
}

function own(object: Fields, name: string): unknown {
  return Object.hasOwn(object, name) ? object[name] : undefined
}

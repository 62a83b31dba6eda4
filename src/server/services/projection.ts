import { invalid } from '../errors.js'
import { type Path, splitPath } from '../filter/path.js'
import type { Json } from '../schemas/item.js'

const MAX_FIELDS = 100

/** Reads `fields=a,b.c`; id always belongs to it. @throws INVALID_REQUEST */
export function parseProjection(text: string): readonly Path[] {
  const names = text.split(',').map((name) => name.trim())
  if (names.length > MAX_FIELDS) throw invalid('query.fields', `must name at most ${MAX_FIELDS} fields`)
  const paths = names.map((name) => {
    const split = splitPath(name)
    if ('fault' in split) throw invalid('query.fields', split.fault)
    return split.path
  })
  return [['id'], ...paths]
}

/** The item with only these fields, at the places they have; as JSON text. */
export function project(text: string, paths: readonly Path[]): string {
  const item = JSON.parse(text) as { [field: string]: Json }
  const picked: { [field: string]: Json } = Object.create(null)
  for (const path of paths) pick(item, picked, path)
  return JSON.stringify(picked)
}

function pick(from: { [field: string]: Json }, to: { [field: string]: Json }, [head, ...rest]: Path): void {
  if (head === undefined || !Object.hasOwn(from, head)) return
  const value = from[head] as Json
  if (rest.length === 0 || !isObject(value)) {
    // Of something that is no object there is nothing to pick from; a longer path finds nothing in it.
    if (rest.length === 0) to[head] = value
    return
  }
  const inside = isObject(to[head]) && to[head] !== value ? to[head] : Object.create(null)
  if (to[head] === value) return
  to[head] = inside
  pick(value, inside, rest)
}

function isObject(value: Json | undefined): value is { [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

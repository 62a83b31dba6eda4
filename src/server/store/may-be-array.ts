import { arrayPosition, type Path } from '../filter/path.js'
import { SERVER_FIELDS } from '../schemas/collection.js'

const UNKNOWN: unknown = undefined

/**
 * Whether a field may hold an array as far as a collection's JSON Schema tells. Conservative: false only when
 * `type`, `const` or `enum` rule an array out, with nothing in between that this does not follow ($ref and the
 * like); everything else may be one.
 */
export function mayBeArray(schema: unknown, path: Path): boolean {
  const [first] = path
  if (path.length === 1 && SERVER_FIELDS.some((field) => field === first)) return false
  let current = schema
  for (const segment of path) {
    // An element of an array has another schema than the property of the same name.
    const property = arrayPosition(segment) === undefined || current === schema || !allowsArray(current)
    current = property ? member(member(current, 'properties'), segment) : UNKNOWN
  }
  return allowsArray(current)
}

function allowsArray(schema: unknown): boolean {
  if (member(schema, '$ref') !== undefined) return true
  const type = member(schema, 'type')
  if (typeof type === 'string') return type === 'array'
  if (Array.isArray(type)) return type.includes('array')
  const constant = member(schema, 'const')
  if (constant !== undefined) return Array.isArray(constant)
  const values = member(schema, 'enum')
  return !Array.isArray(values) || values.some((value) => Array.isArray(value))
}

function member(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined
  return (value as Record<string, unknown>)[key]
}

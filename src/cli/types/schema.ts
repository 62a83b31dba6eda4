type Schema = Readonly<Record<string, unknown>>

/** Keywords whose value is one schema, several, or schemas by name. */
const one = new Set(['additionalProperties', 'additionalItems'])
const several = new Set(['allOf', 'anyOf', 'oneOf'])
const named = new Set(['properties', 'definitions', '$defs'])
/** Keywords that are plain data and say something about the type. */
const data = new Set(['type', 'enum', 'const', 'required'])

/**
 * What types are made from: an operator's JSON Schema reduced to the keywords that say something about the type. The
 * others are left out, because the compiler gives some of them a meaning of its own: `tsType` is copied into the
 * output as code, `$id` and `title` name types, patterns are put into comments.
 */
export function typeSchema(schema: Schema): Schema {
  return reduced(schema, schema) as Schema
}

function reduced(value: unknown, root: Schema): unknown {
  if (value === false) return { not: {} }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return {}
  const schema = value as Schema
  if (typeof schema.$ref === 'string' && !isLocal(schema.$ref, root)) return {}
  const entries = Object.entries(schema).flatMap(([keyword, inner]): [string, unknown][] => {
    if (data.has(keyword)) return [[keyword, inner]]
    if (keyword === '$ref') return [[keyword, inner]]
    if (keyword === 'description' && typeof inner === 'string')
      return [[keyword, inner.replaceAll('*/', '* /')]]
    if (one.has(keyword)) return [[keyword, typeof inner === 'boolean' ? inner : reduced(inner, root)]]
    if (several.has(keyword) && Array.isArray(inner))
      return [[keyword, inner.map((part) => reduced(part, root))]]
    if (keyword === 'items') {
      return [
        [keyword, Array.isArray(inner) ? inner.map((part) => reduced(part, root)) : reduced(inner, root)],
      ]
    }
    if (named.has(keyword) && typeof inner === 'object' && inner !== null) {
      const schemas = Object.entries(inner).map(([name, part]) => [name, reduced(part, root)])
      return [[keyword, Object.fromEntries(schemas)]]
    }
    return []
  })
  return withNull(schema, withPatterns(schema, Object.fromEntries(entries), root))
}

/** TypeScript knows no patterns of names: their values are among those of any other name. */
function withPatterns(schema: Schema, reducedSchema: Schema, root: Schema): Schema {
  const patterns = Object.values((schema.patternProperties ?? {}) as Schema)
  const others = reducedSchema.additionalProperties
  if (patterns.length === 0 || others === undefined || others === true) return reducedSchema
  const values = patterns.map((part) => reduced(part, root))
  return {
    ...reducedSchema,
    additionalProperties: { anyOf: others === false ? values : [...values, others] },
  }
}

/** `nullable` is OpenAPI's, and the server knows it. */
function withNull(schema: Schema, reducedSchema: Schema): Schema {
  const { type } = schema
  if (schema.nullable !== true || type === undefined) return reducedSchema
  return { ...reducedSchema, type: [...new Set([type, 'null'].flat())] }
}

/** Through keywords that are left as they are. */
const POINTER = /^#(\/(definitions|\$defs|properties)\/[^/]+|\/items(\/\d+)?|\/(allOf|anyOf|oneOf)\/\d+)+$/

/** Only what points at a schema in the same document is followed: neither files nor the network are. */
function isLocal(ref: string, root: Schema): boolean {
  if (ref === '#') return true
  if (!POINTER.test(ref)) return false
  let at: unknown = root
  for (const segment of ref.slice(2).split('/')) {
    const key = decoded(segment).replaceAll('~1', '/').replaceAll('~0', '~')
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, key)) return false
    at = (at as Schema)[key]
  }
  return typeof at === 'object' && at !== null
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}

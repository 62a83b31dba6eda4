import type { CollectionDefinition } from '../schemas/collection.js'

type Json = Record<string, unknown>

const serverFields = {
  id: { type: 'string' },
  created_at: { type: 'string', format: 'date-time' },
  updated_at: { type: 'string', format: 'date-time' },
}

/**
 * Writes the generic document paths out for each collection, with its own schema in place of the generic item. The
 * routes themselves are written once, for all collections.
 */
export function describeCollections(
  document: Readonly<Json>,
  definitions: readonly CollectionDefinition[],
): Json {
  const generic = '{collection}'
  const paths: Json = {}
  for (const [path, item] of Object.entries((document.paths ?? {}) as Json)) {
    if (!path.includes(generic)) paths[path] = item
    else {
      for (const definition of definitions) {
        paths[path.replace(generic, definition.name)] = describeItem(item as Json, definition)
      }
    }
  }
  const components = (document.components ?? {}) as Json
  const schemas = Object.fromEntries(definitions.flatMap(schemasOf))
  return {
    ...document,
    paths,
    components: { ...components, schemas: { ...(components.schemas as Json), ...schemas } },
  }
}

function schemasOf(definition: CollectionDefinition): [string, Json][] {
  const { label, name } = definition
  const schema = within(definition.schema, `#/components/schemas/${name}.input`)
  const properties = { ...serverFields, ...(schema.properties as Json | undefined) }
  const required = ['id', 'created_at', 'updated_at', ...((schema.required as string[] | undefined) ?? [])]
  return [
    [`${name}.input`, { ...schema, title: `${label} as it is sent` }],
    [name, { ...schema, title: label, properties, required }],
  ]
}

/** A schema whose references to its own parts still hold when it stands at this place of the document. */
function within(schema: Readonly<Json>, place: string): Json {
  const walk = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(walk)
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(
      Object.entries(value).map(([key, member]) =>
        key === '$ref' && typeof member === 'string' && member.startsWith('#')
          ? [key, place + member.slice(1)]
          : [key, walk(member)],
      ),
    )
  }
  return walk(schema) as Json
}

function describeItem(pathItem: Json, definition: CollectionDefinition): Json {
  const { name } = definition
  return Object.fromEntries(
    Object.entries(pathItem).map(([method, operation]) => {
      const described = structuredClone(operation) as Json
      described.operationId = `${String(described.operationId)}_${name}`
      described.tags = [name]
      described.parameters = ((described.parameters ?? []) as Json[]).filter(
        (parameter) => !(parameter.in === 'path' && parameter.name === 'collection'),
      )
      const bodies = (described.requestBody as Json | undefined)?.content as Record<string, Json> | undefined
      if (bodies !== undefined && isItemBody(method, String(operation && (operation as Json).operationId))) {
        for (const media of Object.values(bodies))
          media.schema = { $ref: `#/components/schemas/${name}.input` }
      }
      replaceItems(described.responses as Json, name)
      return [method, described]
    }),
  )
}

function isItemBody(method: string, operationId: string): boolean {
  return (method === 'post' && operationId === 'create') || method === 'put'
}

/** Puts the collection's item where an answer has the generic one. */
function replaceItems(responses: Json, name: string): void {
  const reference = { $ref: `#/components/schemas/${name}` }
  for (const response of Object.values(responses) as Json[]) {
    for (const media of Object.values((response.content ?? {}) as Record<string, Json>)) {
      const properties = (media.schema as Json | undefined)?.properties as Record<string, Json> | undefined
      const data = properties?.data
      if (properties === undefined || data === undefined) continue
      if (isGenericItem(data)) properties.data = reference
      const kinds = (data.items as Json | undefined)?.anyOf as Json[] | undefined
      // A list: whole items, or what `fields` leaves of them.
      if (kinds !== undefined)
        data.items = { anyOf: kinds.map((kind) => (isGenericItem(kind) ? reference : kind)) }
    }
  }
}

function isGenericItem(schema: Json | undefined): boolean {
  const properties = schema?.properties as Json | undefined
  return (
    properties !== undefined &&
    'created_at' in properties &&
    'updated_at' in properties &&
    !('name' in properties)
  )
}

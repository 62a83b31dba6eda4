import type * as typeboxValue from 'typebox/value'
import { type Fault, invalid, invalidAll } from '../errors.js'
import {
  CollectionDefinition,
  type CollectionInput,
  type MirrorMapping,
  RESERVED_COLLECTION_NAMES,
  SERVER_FIELDS,
} from '../schemas/collection.js'
import { compileItemValidator } from './item-validator.js'
import { lazily } from './lazy.js'
import { storageFault } from './storable.js'

const value = lazily<typeof typeboxValue>('typebox/value')

/** Every instance keeps all definitions compiled and reads them again every second. */
const MAX_DEFINITION = 65_536

/**
 * Fills in and checks a collection's definition.
 * @throws INVALID_DEFINITION naming each field that is wrong, for a reserved name and an unusable schema too.
 */
export function completeDefinition(input: CollectionInput): CollectionDefinition {
  const fields = propertiesOf(input.schema)
  const definition: CollectionDefinition = {
    name: input.name,
    label: input.label ?? 'Document',
    schema: input.schema,
    id_prefix: input.id_prefix ?? String(input.name).replaceAll('_', '-').slice(0, 20),
    indexes: input.indexes ?? [],
    mirror: completeMapping(input, fields),
  }
  checkDefinition(definition)
  return definition
}

/** @throws INVALID_DEFINITION */
export function checkDefinition(definition: CollectionDefinition): void {
  const faults: Fault[] = value()
    .Errors(CollectionDefinition, definition)
    .map((error) => ({
      field: error.instancePath.slice(1).replaceAll('/', '.') || 'definition',
      message: error.message,
    }))
  if ((RESERVED_COLLECTION_NAMES as readonly string[]).includes(definition.name)) {
    faults.push({
      field: 'name',
      message: `must not be one of ${RESERVED_COLLECTION_NAMES.join(', ')}: reserved`,
    })
  }
  const storage = storageFault(definition, 'definition')
  if (storage !== undefined) faults.push(storage)
  // Only what storageFault lets pass is shallow enough to be printed.
  else if (JSON.stringify(definition).length > MAX_DEFINITION) {
    faults.push({
      field: 'definition',
      message: `must not be longer than ${MAX_DEFINITION} characters of JSON`,
    })
  }
  if (faults.length > 0) throw invalidAll(faults, 'INVALID_DEFINITION')
  const schema: Record<string, unknown> = definition.schema
  if (schema.type !== undefined && schema.type !== 'object') {
    throw invalid('schema.type', 'must be "object": every item is one', 'INVALID_DEFINITION')
  }
  const required = Array.isArray(schema.required) ? schema.required : []
  const server = SERVER_FIELDS.filter((field) => field in propertiesOf(schema) || required.includes(field))
  if (server.length > 0) {
    const message = `must not describe ${server.join(', ')}: only the server sets them`
    throw invalid('schema', message, 'INVALID_DEFINITION')
  }
  compileItemValidator(schema)
}

function propertiesOf(schema: unknown): Record<string, unknown> {
  const properties = (schema as { properties?: unknown } | null)?.properties
  return typeof properties === 'object' && properties !== null ? (properties as Record<string, unknown>) : {}
}

/** By default each top-level field of the schema stands under `metadata` by its own name, and the text is empty. */
function completeMapping(input: CollectionInput, fields: Record<string, unknown>): MirrorMapping {
  return {
    collection: input.mirror?.collection ?? input.name,
    text: input.mirror?.text ?? null,
    metadata:
      input.mirror?.metadata ?? Object.fromEntries(Object.keys(fields).map((field) => [field, field])),
    spread: input.mirror?.spread ?? null,
  }
}

import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv'
import { type Fault, invalid } from '../errors.js'
import { addBoundedFormats } from './schema/formats.js'
import { linearOnly, linearWherePossible, placeOfPattern, UnsafePattern } from './schema/patterns.js'
import { addLinearUniqueItems } from './schema/unique-items.js'
import { storageFault } from './storable.js'

/** Finds the first thing wrong with an item's own fields; undefined when it may be stored. */
export type ItemValidator = (fields: Readonly<Record<string, unknown>>, path: string) => Fault | undefined

export interface CompileOptions {
  /**
   * Given for a definition that is stored already, and so must be usable: told of each pattern that is not linear in
   * the text, and such patterns are tried by backtracking. Without it they are refused.
   */
  onUnsafePattern?: (pattern: string) => void
}

const schemaOfSchemas = new Ajv()
addBoundedFormats(schemaOfSchemas)

/**
 * Compiles a collection's JSON Schema (draft 07 with the usual formats; unknown keywords are errors). What it
 * compiles takes time linear in an item, whatever the item: patterns are RE2's (docs/security.md, "Hostile input").
 * @throws INVALID_DEFINITION with what the schema compiler says.
 */
export function compileItemValidator(
  schema: Readonly<Record<string, unknown>>,
  { onUnsafePattern }: CompileOptions = {},
): ItemValidator {
  const regExp = onUnsafePattern === undefined ? linearOnly : linearWherePossible(onUnsafePattern)
  // An instance of its own for each schema: a definition that is replaced leaves nothing behind.
  const ajv = new Ajv({
    strict: true,
    strictTypes: false,
    strictRequired: false,
    ownProperties: true,
    // It would compile the schema of schemas for each of them.
    validateSchema: false,
    code: { regExp },
  })
  addBoundedFormats(ajv)
  addLinearUniqueItems(ajv)
  let check: ValidateFunction
  try {
    schemaOfSchemas.validateSchema(schema, true)
    check = ajv.compile(schema)
  } catch (error) {
    if (error instanceof UnsafePattern) {
      const place = placeOfPattern(schema, error.pattern) ?? 'pattern'
      const message = `must be a pattern that RE2 knows, without look-around and back-references: ${error.message}`
      throw invalid(`schema.${place}`, message, 'INVALID_DEFINITION')
    }
    throw invalid('schema', `is not a usable JSON Schema: ${(error as Error).message}`, 'INVALID_DEFINITION')
  }
  if ('$async' in check) {
    throw invalid('schema.$async', 'is not allowed: documents are checked at once', 'INVALID_DEFINITION')
  }
  return (fields, path) => {
    const fault = storageFault(fields, path)
    if (fault !== undefined) return fault
    return check(fields) ? undefined : describe(check.errors?.[0], path)
  }
}

function describe(error: ErrorObject | undefined, path: string): Fault {
  const at = (error?.instancePath ?? '').split('/').slice(1)
  const field = [path, ...at.map((segment) => segment.replaceAll('~1', '/').replaceAll('~0', '~'))].join('.')
  const { keyword, params, message } = error ?? {}
  if (keyword === 'required') return { field: `${field}.${params?.missingProperty}`, message: 'is required' }
  if (keyword === 'additionalProperties') {
    return { field: `${field}.${params?.additionalProperty}`, message: 'is not a field of this collection' }
  }
  if (keyword === 'enum') {
    return { field, message: `must be one of ${params?.allowedValues.map(String).join(', ')}` }
  }
  return { field, message: message ?? 'does not fit the schema' }
}

/** An item without the fields that only the server sets: the item itself when it has none of them. */
export function ownFields(item: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  if (!('id' in item || 'created_at' in item || 'updated_at' in item)) return item
  // SERVER_FIELDS by name: objects that fields are deleted from are slow ever after, when they are read and printed.
  const { id, created_at, updated_at, ...fields } = item
  return fields
}

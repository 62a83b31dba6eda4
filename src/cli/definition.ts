import { readFile } from 'node:fs/promises'
import { text as readAll } from 'node:stream/consumers'
import { type Command, Option } from 'commander'
import { type Fault, invalid, invalidAll } from '../server/errors.js'
import type { CollectionIndex, CollectionInput } from '../server/schemas/collection.js'

/** The flags that describe a collection, alike for create and update. */
export interface DefinitionFlags {
  from?: string
  schema?: string
  idPrefix?: string
  label?: string
  index?: string[]
  textIndex?: boolean
  mirror?: string
}

/** Members that the server adds when it shows a definition: what was shown may be given back. */
const SHOWN_ONLY = ['shipped', 'version', 'created_at', 'updated_at', 'documents']

export function addDefinition(command: Command): Command {
  return command
    .addOption(
      new Option('--from <file>', 'whole definition, JSON or YAML; - reads stdin').conflicts([
        'schema',
        'idPrefix',
        'label',
        'index',
        'textIndex',
        'mirror',
      ]),
    )
    .option('--schema <file>', 'JSON Schema of an item, JSON or YAML; - reads stdin')
    .option('--id-prefix <text>', 'what generated ids start with')
    .option('--label <text>', 'one of its documents, for messages: "Agent task"')
    .option(
      '--index <fields>',
      'index on comma-separated fields, in this order; may be repeated',
      (fields: string, before: string[] = []) => [...before, fields],
    )
    .option('--text-index', 'index for full text search')
    .option('--mirror <file>', 'mapping into MongoDB, JSON or YAML')
}

/** True when nothing that describes a collection was given. */
export function isBare(flags: DefinitionFlags): boolean {
  const { from, schema, idPrefix, label, index, textIndex, mirror } = flags
  return [from, schema, idPrefix, label, index, textIndex, mirror].every((flag) => flag === undefined)
}

/** The members that the flags give. @throws INVALID_REQUEST naming the flag */
export async function definitionMembers(flags: DefinitionFlags): Promise<Partial<CollectionInput>> {
  const { from, schema, idPrefix, label, mirror } = flags
  if (from !== undefined) {
    const definition = await readObject('--from', from)
    return Object.fromEntries(Object.entries(definition).filter(([key]) => !SHOWN_ONLY.includes(key)))
  }
  const indexes = indexesOf(flags)
  return {
    ...(schema !== undefined && { schema: await readObject('--schema', schema) }),
    ...(idPrefix !== undefined && { id_prefix: idPrefix }),
    ...(label !== undefined && { label }),
    ...(indexes.length > 0 && { indexes }),
    ...(mirror !== undefined && { mirror: await readObject('--mirror', mirror) }),
  }
}

/**
 * What a server would refuse by its schema, refused alike for local stores.
 * @throws INVALID_DEFINITION naming each field
 */
export async function checkedInput(input: unknown): Promise<CollectionInput> {
  const [{ Value }, { CollectionInput }] = await Promise.all([
    import('typebox/value'),
    import('../server/schemas/collection.js'),
  ])
  if (Value.Check(CollectionInput, input)) return input
  const faults: Fault[] = [...Value.Errors(CollectionInput, input)].map((error) => ({
    field: error.instancePath.slice(1).replaceAll('/', '.') || 'definition',
    message: error.message,
  }))
  throw invalidAll(faults, 'INVALID_DEFINITION')
}

/** `session_id:string!,score:number` as a JSON Schema; `!` marks what is required. @throws INVALID_REQUEST */
export function schemaOfFields(text: string): Record<string, unknown> {
  const fields = text
    .split(',')
    .map((field) => field.trim())
    .filter((field) => field !== '')
  const parsed = fields.map((field) => {
    const [, name, type = 'string', required] =
      /^([^:!,]+?)(?::(string|number|integer|boolean|object|array))?(!)?$/.exec(field) ?? []
    if (name === undefined) {
      throw invalid(
        `"${field}"`,
        'must be name:type, with type one of string, number, integer, boolean, object, array',
      )
    }
    return { name, type, required: required === '!' }
  })
  return {
    type: 'object',
    required: parsed.filter((field) => field.required).map((field) => field.name),
    properties: Object.fromEntries(parsed.map(({ name, type }) => [name, { type }])),
  }
}

function indexesOf({ index = [], textIndex }: DefinitionFlags): CollectionIndex[] {
  const indexes: CollectionIndex[] = index.map((fields) => ({
    fields: fields.split(',').map((field) => field.trim()),
  }))
  if (textIndex) indexes.push({ type: 'text' })
  return indexes
}

/** One object from a JSON or YAML file. @throws INVALID_REQUEST naming the flag */
export async function readObject(flag: string, file: string): Promise<Record<string, unknown>> {
  const { parse } = await import('yaml')
  let value: unknown
  try {
    // YAML 1.2 contains JSON, so one parser reads both.
    value = parse(file === '-' ? await readAll(process.stdin) : await readFile(file, 'utf8'))
  } catch (error) {
    // The parser draws the place over several lines; the first says it.
    throw invalid(flag, `cannot be read from ${file}: ${(error as Error).message.split('\n')[0]}`)
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>
  }
  throw invalid(flag, `must hold one object, and ${file} does not`)
}

import { Command } from 'commander'
import { invalid } from '../../../server/errors.js'
import type { CollectionInput } from '../../../server/schemas/collection.js'
import { addConnection, type ConnectionFlags, withClient } from '../../client/open.js'
import {
  addDefinition,
  checkedInput,
  type DefinitionFlags,
  definitionMembers,
  isBare,
  readObject,
  schemaOfFields,
} from '../../definition.js'
import { print, say } from '../../output.js'
import { askChoice, askText, interactive } from '../../prompt.js'
import { described } from './show.js'

type CreateFlags = ConnectionFlags & DefinitionFlags & { json?: boolean }

export function createCommand(): Command {
  const command = new Command('create')
    .description('Make a collection; on a terminal, asks for what is missing')
    .helpOption('-h, --help', 'print this help')
    .argument('[name]', 'lower-case letters, digits and underscores')
  addDefinition(command)
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Examples:
  dualstore collections create
  dualstore collections create notes --schema notes.schema.json --index session_id,created_at --text-index
  dualstore collections create --from notes.json
  dualstore collections show notes --json --url http://a:3000 | dualstore collections create --from - --url http://b:3000`,
    )
    .action(async (name: string | undefined, flags: CreateFlags) => {
      const asked = name === undefined && isBare(flags)
      const members = await definitionMembers(flags)
      const input = await checkedInput(await completed({ ...members, ...(name && { name }) }, asked))
      const collection = await withClient(flags, (client) => client.create(input))
      say(`created ${collection.name}`)
      await print(described(collection), flags)
    })
  return addConnection(command)
}

/** Asks for what a definition cannot do without, and, when nothing at all was given, for the rest too. */
async function completed(
  given: Partial<CollectionInput>,
  everything: boolean,
): Promise<Partial<CollectionInput>> {
  if (given.name !== undefined && given.schema !== undefined) return given
  if (!interactive()) {
    if (given.name === undefined) throw invalid('<name>', 'is missing; give a name, or --from a definition')
    throw invalid('--schema', 'is missing; give a JSON Schema, or --from a whole definition')
  }
  const name = given.name ?? (await askText('Name:', { check: nameFault }))
  const schema = given.schema ?? (await askSchema())
  return { ...given, name, schema, ...(everything && (await askRest(name))) }
}

async function askSchema(): Promise<Record<string, unknown>> {
  const source = await askChoice('What do its items look like?', [
    { value: 'fields', name: 'I name the fields now' },
    { value: 'file', name: 'There is a JSON Schema in a file' },
    { value: 'any', name: 'Any JSON object' },
  ])
  if (source === 'any') return { type: 'object' }
  if (source === 'file') return readObject('the schema', await askText('File:'))
  return schemaOfFields(
    await askText('Fields as name:type, ! when required (session_id:string!, score:number):', {
      check: (text) => faultOf(() => schemaOfFields(text)),
    }),
  )
}

async function askRest(name: string): Promise<Partial<CollectionInput>> {
  const label = await askText('One of its documents is called:', { fallback: 'Document' })
  const id_prefix = await askText('Generated ids start with:', {
    fallback: name.replaceAll('_', '-').slice(0, 20),
  })
  const index = await askText('Index on fields, comma-separated (empty for none):')
  const fields = index
    .split(',')
    .map((field) => field.trim())
    .filter((field) => field !== '')
  return { label, id_prefix, ...(fields.length > 0 && { indexes: [{ fields }] }) }
}

function nameFault(name: string): string | undefined {
  return /^[a-z][a-z0-9_]{0,49}$/.test(name)
    ? undefined
    : 'Lower-case letters, digits and underscores, starting with a letter, at most 50'
}

function faultOf(work: () => unknown): string | undefined {
  try {
    work()
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

import { Command, Option } from 'commander'
import { invalid } from '../../../server/errors.js'
import type { KeyInput } from '../../../server/schemas/key.js'
import { openKeys } from '../../client/keys.js'
import { addConnection, type ConnectionFlags, withOpened } from '../../client/open.js'
import { parseDuration } from '../../duration.js'
import { askChoice, askText, interactive } from '../../prompt.js'
import { printNewKey } from './show.js'

interface CreateFlags extends ConnectionFlags {
  name?: string
  role?: Role
  read?: string[]
  write?: string[]
  rows?: string
  expiresIn?: number
  expiresAt?: string
  quiet?: boolean
  json?: boolean
}

type Role = KeyInput['role']

const ROLES: readonly { value: Role; name: string }[] = [
  { value: 'reader', name: 'reader: reads documents' },
  { value: 'writer', name: 'writer: reads and writes documents' },
  { value: 'admin', name: 'admin: manages collections and keys too' },
]

export function createKeyCommand(): Command {
  const command = new Command('create')
    .description('Make a key, which is shown this once; on a terminal, asks for what is missing')
    .helpOption('-h, --help', 'print this help')
    .option('--name <text>', 'what it is for')
    .addOption(new Option('--role <role>', 'what it may do at all').choices(ROLES.map(({ value }) => value)))
    .addOption(scope('--read <collections>', 'it may read, with * for any characters; all by default'))
    .addOption(scope('--write <collections>', 'it may write; all by default, and none as a reader'))
    .option('--rows <json>', 'only the documents that pass this filter, in the language of lists')
    .addOption(
      new Option('--expires-in <duration>', 'when it ends: 12h, 90d; never by default')
        .argParser(parseDuration)
        .conflicts('expiresAt'),
    )
    .option('--expires-at <time>', 'the same as an ISO 8601 time')
    .option('--quiet', 'print the key alone')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Over HTTP nobody makes a key that may do more than their own. On the local stores anything goes, the first admin
key on an empty database too.

Examples:
  dualstore keys create
  dualstore keys create --role admin --name first --quiet > admin.key
  dualstore keys create --role writer --name agent --read '*' --write 'agent_*,notes' --expires-in 90d
  dualstore keys create --role reader --name team-a --rows '{"metadata.team": "a"}' --url http://127.0.0.1:3000`,
    )
    .action(async (flags: CreateFlags) => {
      const input = await completed(flags)
      await printNewKey(
        await withOpened(
          () => openKeys(flags),
          (keys) => keys.create(input),
        ),
        flags,
      )
    })
  return addConnection(command)
}

function scope(flags: string, what: string): Option {
  return new Option(flags, `collections that ${what}; comma-separated, "" for none`).argParser((text) =>
    text
      .split(',')
      .map((name) => name.trim())
      .filter((name) => name !== ''),
  )
}

async function completed(flags: CreateFlags): Promise<KeyInput> {
  const given = {
    ...flags,
    ...((flags.name === undefined || flags.role === undefined) && (await asked(flags))),
  }
  const { name = '', role = 'reader', read, write, rows } = given
  const scopes = { ...(read && { read }), ...(write && { write }) }
  const expiresAt = given.expiresIn === undefined ? given.expiresAt : new Date(Date.now() + given.expiresIn)
  return checked({
    name,
    role,
    ...(Object.keys(scopes).length > 0 && { scopes }),
    ...(rows !== undefined && { rows: parsedRows(rows) }),
    ...(expiresAt !== undefined && {
      expires_at: expiresAt instanceof Date ? expiresAt.toISOString() : expiresAt,
    }),
  })
}

/** What a key cannot do without and, when neither was given, for how long it is meant to be. */
async function asked({ name, role, expiresIn, expiresAt }: CreateFlags) {
  if (!interactive()) throw invalid(name === undefined ? '--name' : '--role', 'is missing')
  const answers = {
    name: name ?? (await askText('What is the key for?', { check: nameFault })),
    role: role ?? (await askChoice('What may it do?', ROLES)),
  }
  if (name !== undefined || role !== undefined || expiresIn !== undefined || expiresAt !== undefined)
    return answers
  const text = await askText('It ends after (12h, 90d; empty for never):', { check: durationFault })
  return { ...answers, ...(text !== '' && { expiresIn: parseDuration(text) }) }
}

/** What a server would refuse by its schema, refused alike for local stores. @throws INVALID_REQUEST naming each flag */
async function checked(input: unknown): Promise<KeyInput> {
  const [{ Value }, { KeyInput }, { invalidAll }] = await Promise.all([
    import('typebox/value'),
    import('../../../server/schemas/key.js'),
    import('../../../server/errors.js'),
  ])
  if (Value.Check(KeyInput, input)) return input
  const faults = [...Value.Errors(KeyInput, input)].map(({ instancePath, message }) => ({
    field: `--${instancePath.replace('/scopes/', '/').split('/')[1]}`,
    message,
  }))
  throw invalidAll(faults)
}

function parsedRows(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      return value as Record<string, unknown>
    }
  } catch {
    // Told below, as what is no object.
  }
  throw invalid('--rows', 'must be a JSON object, such as {"metadata.team": "a"}')
}

function nameFault(text: string): string | undefined {
  return text.trim() === '' || text.length > 100 ? 'From 1 to 100 characters' : undefined
}

function durationFault(text: string): string | undefined {
  if (text === '') return undefined
  try {
    parseDuration(text)
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

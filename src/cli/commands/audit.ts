import { Command, InvalidArgumentError, Option } from 'commander'
import { invalid } from '../../server/errors.js'
import { isKeyId } from '../../server/services/key-format.js'
import { type KeysClient, openKeys } from '../client/keys.js'
import { addConnection, type ConnectionFlags, withOpened } from '../client/open.js'
import { parseDuration } from '../duration.js'
import { print } from '../output.js'

interface AuditFlags extends Omit<ConnectionFlags, 'key'> {
  /** Not the key to call with, as elsewhere. */
  key?: string
  since?: string
  limit: number
  documents?: boolean
  collection?: string
  id?: string
  json?: boolean
}

const PAGE = 1000

export function auditCommand(): Command {
  const command = new Command('audit')
    .helpOption('-h, --help', 'print this help')
    .option('--key <id>', 'only what this key did, or what was done to it')
    .addOption(
      new Option(
        '--since <time>',
        'only from then on: an ISO 8601 time, or how long ago, such as 7d',
      ).argParser(parseSince),
    )
    .addOption(
      new Option('--limit <number>', 'most entries: the newest ones').argParser(parseLimit).default(1000),
    )
    .option('--documents', 'what was done to documents, as long as the change log is kept')
    .option('--collection <name>', 'only documents of this collection; with --documents')
    .option('--id <id>', 'only the document with this id; with --documents')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
The key to call a server with goes into --key-file or DUALSTORE_KEY here: --key names the one that is asked about.

Examples:
  dualstore audit --since 7d
  dualstore audit --key 4WbXk1yPq0Zt --json | jq '.[].action'
  dualstore audit --documents --collection agent_tasks --id task_1
  dualstore audit --url http://127.0.0.1:3000 --key-file admin.key`,
    )
    .action(async (flags: AuditFlags) => {
      const { key, since, limit, documents, collection, id, json, ...connection } = flags
      if (key !== undefined) requireKeyId(key)
      if (!documents) requireDocuments({ collection, id })
      const asked = { key, since, limit }
      const { entries, head, rows } = await withOpened(
        () => openKeys(connection),
        (client) =>
          documents ? ofDocuments(client, { ...asked, collection, id }) : ofManagement(client, asked),
      )
      await print({ json: entries, text: [{ head, rows }] }, { json })
    })
  return addConnection(command, undefined, { key: false })
}

interface Asked {
  key: string | undefined
  since: string | undefined
  limit: number
}

/** Of one document or collection; only documents have them. */
interface Place {
  collection: string | undefined
  id: string | undefined
}

interface Told {
  entries: object[]
  head: string[]
  rows: unknown[][]
}

/** What was done to keys and collections. */
async function ofManagement(client: KeysClient, asked: Asked): Promise<Told> {
  const entries = await newest(asked, (query) => client.audit(query))
  const head = ['TIME', 'ACTOR', 'ADDRESS', 'ACTION', 'TARGET', 'DETAILS']
  const rows = entries.map(({ at, actor, address, action, target, details }) => {
    return [at, actor, address, action, target, details]
  })
  return { entries, head, rows }
}

/** What was done to documents. */
async function ofDocuments(client: KeysClient, asked: Asked & Place): Promise<Told> {
  const entries = await newest(asked, (query) => client.documentAudit(query))
  const head = ['TIME', 'AUTHOR', 'ADDRESS', 'CHANGE', 'COLLECTION', 'ID', 'VERSION', 'POSITION']
  const rows = entries.map(({ at, author, address, op, collection, id, version, position }) => {
    return [at, author, address, op, collection, id, version, position]
  })
  return { entries, head, rows }
}

/** The newest entries, the newest last. Pages may be short, or empty, before the end. */
async function newest<A extends Asked, T>(
  { limit, ...asked }: A,
  read: (query: { limit: number; cursor?: string }) => Promise<{ entries: T[]; nextCursor: string | null }>,
): Promise<T[]> {
  const entries: T[] = []
  const given = Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== undefined))
  let cursor: string | null | undefined
  do {
    const query = { ...given, limit: Math.min(PAGE, limit - entries.length), ...(cursor && { cursor }) }
    const page = await read(query)
    entries.push(...page.entries)
    cursor = page.nextCursor
  } while (cursor !== null && entries.length < limit)
  return entries.reverse()
}

function requireDocuments(given: Place): void {
  for (const [name, value] of Object.entries(given)) {
    if (value !== undefined)
      throw invalid(`--${name}`, 'is about documents: use it together with --documents')
  }
}

/** Not for commander to refuse: it repeats what was given, which may be a whole key. */
function requireKeyId(text: string): void {
  if (isKeyId(text)) return
  throw invalid(
    '--key',
    'is the id of a key here, the part behind dsk_; the key to call with goes into --key-file or DUALSTORE_KEY',
  )
}

function parseSince(text: string): string {
  if (/^\d{4}-/.test(text)) return text
  return new Date(Date.now() - parseDuration(text)).toISOString()
}

function parseLimit(text: string): number {
  const number = Number(text)
  if (/^\d{1,7}$/.test(text) && number > 0) return number
  throw new InvalidArgumentError('It must be a whole number from 1 on.')
}

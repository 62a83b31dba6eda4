import { Command, InvalidArgumentError, Option } from 'commander'
import { invalid } from '../../server/errors.js'
import type { AuditEntryAnswer } from '../../server/schemas/key.js'
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
  json?: boolean
}

const PAGE = 1000

export function auditCommand(): Command {
  const command = new Command('audit')
    .description('Tell who did what to keys and collections, when and from where; the newest last')
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
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
The key to call a server with goes into --key-file or DUALSTORE_KEY here: --key names the one that is asked about.

Examples:
  dualstore audit --since 7d
  dualstore audit --key 4WbXk1yPq0Zt --json | jq '.[].action'
  dualstore audit --url http://127.0.0.1:3000 --key-file admin.key`,
    )
    .action(async (flags: AuditFlags) => {
      const { key, since, limit, json, ...connection } = flags
      if (key !== undefined) requireKeyId(key)
      const entries = await withOpened(
        () => openKeys(connection),
        (client) => newest(client, { key, since, limit }),
      )
      entries.reverse()
      const head = ['TIME', 'ACTOR', 'ADDRESS', 'ACTION', 'TARGET', 'DETAILS']
      const rows = entries.map((entry) => [
        entry.at,
        entry.actor,
        entry.address,
        entry.action,
        entry.target,
        entry.details,
      ])
      await print({ json: entries, text: [{ head, rows }] }, { json })
    })
  return addConnection(command, undefined, { key: false })
}

interface Asked {
  key: string | undefined
  since: string | undefined
  limit: number
}

/** The newest entries, the newest first. */
async function newest(client: KeysClient, { key, since, limit }: Asked): Promise<AuditEntryAnswer[]> {
  const entries: AuditEntryAnswer[] = []
  let cursor: string | null | undefined
  do {
    const page = await client.audit({
      limit: Math.min(PAGE, limit - entries.length),
      ...(key !== undefined && { key }),
      ...(since !== undefined && { since }),
      ...(cursor && { cursor }),
    })
    entries.push(...page.entries)
    cursor = page.nextCursor
  } while (cursor !== null && entries.length < limit)
  return entries
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

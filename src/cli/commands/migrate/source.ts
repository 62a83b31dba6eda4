import { readFile } from 'node:fs/promises'
import { text as readAll } from 'node:stream/consumers'
import { type Command, Option } from 'commander'
import type { Source } from '../../../migrate/sources/contract.js'
import type { Context } from '../../../server/context.js'
import { DualstoreError, invalid } from '../../../server/errors.js'
import { checkedUrl } from '../../client/open.js'
import { printable, say } from '../../output.js'

type Log = Pick<Context['log'], 'warn'>

/** Where the documents come from. */
export interface SourceFlags {
  mongoUri?: string
  agentName?: string
  database?: string
  url?: string
  token?: string
  tokenFile?: string
  acceptLoss?: boolean
  batch?: number
}

/** What a legacy server calls itself and its database when nobody says otherwise. */
export const LEGACY = { agentName: 'duck', database: 'database' }

const GROUP = 'Where from:'

export function addSource(command: Command): Command {
  const options = [
    new Option('--mongo-uri <uri>', "the legacy server's MongoDB").env('DUALSTORE_LEGACY_MONGODB_URI'),
    new Option('--agent-name <name>', `what its collections begin with (default: "${LEGACY.agentName}")`),
    new Option('--database <name>', `its database (default: "${LEGACY.database}")`),
    new Option('--url <url>', 'a legacy server that runs, where its MongoDB cannot be reached').conflicts(
      'mongoUri',
    ),
    new Option('--token <token>', 'its token').env('DUALSTORE_LEGACY_TOKEN').conflicts('tokenFile'),
    new Option('--token-file <file>', 'file that holds its token; - reads stdin'),
    new Option('--accept-loss', 'with --url: yes, take what it gives, although that is not everything'),
  ]
  for (const option of options) command.addOption(option.helpGroup(GROUP))
  return command
}

/**
 * Opens what the flags name; whoever calls closes it.
 * @throws INVALID_REQUEST naming the flag; CONFIRMATION_REQUIRED for a lossy source without --accept-loss, unless it
 * is only to be looked at
 */
export async function openSource(flags: SourceFlags, log: Log, { look }: { look: boolean }): Promise<Source> {
  const source = await opened(flags, log)
  try {
    const losses = await source.losses()
    for (const loss of losses) say(`loss: ${printable(loss)}`)
    if (losses.length > 0 && !look && !flags.acceptLoss) {
      throw new DualstoreError(
        'CONFIRMATION_REQUIRED',
        `${source.name} does not give everything: --accept-loss takes what it gives, --mongo-uri takes all`,
      )
    }
    return source
  } catch (error) {
    await source.close()
    throw error
  }
}

async function opened({ mongoUri, url, batch, ...flags }: SourceFlags, log: Log): Promise<Source> {
  if (url !== undefined) {
    const { openHttpSource } = await import('../../../migrate/sources/http.js')
    const token = flags.tokenFile === undefined ? flags.token : await readToken(flags.tokenFile)
    return openHttpSource({ url: checkedUrl(url, '--url', 'the token goes into --token-file'), token })
  }
  if (mongoUri === undefined) {
    throw invalid('--mongo-uri', "is missing: the legacy server's MongoDB, or --url for the server itself")
  }
  const { openMongoSource } = await import('../../../migrate/sources/mongo.js')
  const { agentName = LEGACY.agentName, database = LEGACY.database } = flags
  return openMongoSource({ uri: mongoUri, agentName, database, log, ...(batch !== undefined && { batch }) })
}

/** @throws INVALID_REQUEST naming the flag */
async function readToken(file: string): Promise<string> {
  try {
    return (file === '-' ? await readAll(process.stdin) : await readFile(file, 'utf8')).trim()
  } catch (error) {
    throw invalid('--token-file', `cannot be read: ${(error as Error).message}`)
  }
}

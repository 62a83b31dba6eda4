import { Command } from 'commander'
import type { ParkedAnswer, ParkedDetailAnswer } from '../../server/schemas/jobs.js'
import type { ConnectionFlags } from '../client/open.js'
import { addOperations, withOperations } from '../client/open-operations.js'
import type { OperationsClient } from '../client/operations.js'
import { print } from '../output.js'
import { EXIT_FOUND } from '../report.js'

type Flags = ConnectionFlags & { json?: boolean }
const PAGE = 1000

export function parkedCommand(): Command {
  return new Command('parked')
    .helpOption('-h, --help', 'print this help')
    .addHelpText('after', '\nExamples:\n  dualstore parked list\n  dualstore parked retry agent_tasks task_1')
    .addCommand(listCommand())
    .addCommand(keyCommand('show', 'Show a parked document in both stores, with the reason', show))
    .addCommand(
      keyCommand(
        'retry',
        'Give the mirror a parked document as it is now; exits with 1 when it is refused',
        retry,
      ),
    )
    .addCommand(
      keyCommand('skip', 'Leave a parked document as it is in the mirror until its next change', skip),
    )
}

function listCommand(): Command {
  const command = new Command('list')
    .description('List parked documents, by collection and id')
    .helpOption('-h, --help', 'print this help')
    .option('--collection <name>', 'only of this collection')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      '\nExamples:\n  dualstore parked list\n  dualstore parked list --json | jq .[].reason',
    )
    .action(async (flags: Flags & { collection?: string }) => {
      const all = await withOperations(flags, (client) => everyParked(client, flags.collection))
      const rows = all.map((one) => [one.collection, one.id, one.attempts, one.parked_at, one.reason])
      await print(
        { json: all, text: [{ head: ['COLLECTION', 'ID', 'ATTEMPTS', 'SINCE', 'REASON'], rows }] },
        flags,
      )
    })
  return addOperations(command)
}

async function everyParked(
  client: OperationsClient,
  collection: string | undefined,
): Promise<ParkedAnswer[]> {
  const all: ParkedAnswer[] = []
  for (;;) {
    const last = all.at(-1)
    const page = await client.parked({
      limit: PAGE,
      ...(collection !== undefined && { collection }),
      ...(last && { after: `${last.collection}/${last.id}` }),
    })
    all.push(...page)
    if (page.length < PAGE) return all
  }
}

type Action = (
  client: OperationsClient,
  key: { collection: string; id: string },
  flags: Flags,
) => Promise<void>

function keyCommand(name: string, description: string, action: Action): Command {
  const command = new Command(name)
    .description(description)
    .helpOption('-h, --help', 'print this help')
    .argument('<collection>', 'the collection')
    .argument('<id>', 'the document')
    .option('--json', 'print one JSON document')
    .addHelpText('after', `\nExamples:\n  dualstore parked ${name} agent_tasks task_1`)
    .action((collection: string, id: string, flags: Flags) =>
      withOperations(flags, (client) => action(client, { collection, id }, flags)),
    )
  return addOperations(command)
}

const show: Action = async (client, key, flags) => {
  const parked: ParkedDetailAnswer = await client.showParked(key)
  const rows = parked.differences.map(({ path, ours, theirs }) => [path, ours ?? '', theirs ?? ''])
  await print(
    {
      json: parked,
      text: [
        `refused ${parked.attempts} time(s) since ${parked.parked_at}: ${parked.reason}`,
        `PostgreSQL: ${parked.document === null ? 'deleted' : `version ${parked.document.version}`}`,
        `mirror: ${parked.mirrored === null ? 'nothing' : 'an older state'}`,
        ...(rows.length > 0 ? [{ head: ['PATH', 'POSTGRESQL', 'MIRROR'], rows }] : []),
      ],
    },
    flags,
  )
}

const retry: Action = async (client, key, flags) => {
  const json = await client.retryParked(key)
  if (json.outcome === 'parked') process.exitCode = EXIT_FOUND
  const text = json.outcome === 'applied' ? 'the mirror has taken it' : `refused again: ${json.reason}`
  await print({ json, text: [text] }, flags)
}

const skip: Action = async (client, key, flags) => {
  await client.skipParked(key)
  await print({ json: key, text: ['skipped; its next change goes to the mirror again'] }, flags)
}

import { Command } from 'commander'
import type { CollectionAnswer } from '../../../server/services/collections.js'
import { addConnection, type ConnectionFlags, withClient } from '../../client/open.js'
import { print, type Result } from '../../output.js'

export function showCommand(): Command {
  const command = new Command('show')
    .description('Show a collection: its definition and its number of documents')
    .helpOption('-h, --help', 'print this help')
    .argument('<name>', 'the collection')
    .option('--json', 'print one JSON document, which "create --from" takes')
    .addHelpText(
      'after',
      `
Examples:
  dualstore collections show agent_tasks
  dualstore collections show notes --json > notes.json`,
    )
    .action(async (name: string, flags: ConnectionFlags & { json?: boolean }) => {
      await print(described(await withClient(flags, (client) => client.show(name))), flags)
    })
  return addConnection(command)
}

/** A collection as show, create and update print it. */
export function described(collection: CollectionAnswer): Result {
  const { schema, indexes, mirror, ...plain } = collection
  return {
    json: collection,
    text: [
      {
        head: ['FIELD', 'VALUE'],
        rows: [
          ...Object.entries(plain),
          ...indexes.map((index) => ['index', 'fields' in index ? index.fields.join(', ') : 'full text']),
          ...Object.entries(mirror).map(([key, value]) => [`mirror.${key}`, value]),
          ['schema', schema],
        ],
      },
    ],
  }
}

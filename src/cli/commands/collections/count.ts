import { Command } from 'commander'
import { addConnection, type ConnectionFlags, withClient } from '../../client/open.js'
import { print } from '../../output.js'

export function countCommand(): Command {
  const command = new Command('count')
    .description('Count the documents of a collection')
    .helpOption('-h, --help', 'print this help')
    .argument('<collection>', 'the collection')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Examples:
  dualstore collections count agent_tasks
  dualstore collections count agent_tasks --url http://127.0.0.1:3000 --json`,
    )
    .action(async (collection: string, flags: ConnectionFlags & { json?: boolean }) => {
      const documents = await withClient(flags, (client) => client.count(collection))
      await print({ json: { collection, documents }, text: [String(documents)] }, flags)
    })
  return addConnection(command)
}

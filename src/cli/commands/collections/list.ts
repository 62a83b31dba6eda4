import { Command } from 'commander'
import { addConnection, type ConnectionFlags, withClient } from '../../client/open.js'
import { print } from '../../output.js'

export function listCommand(): Command {
  const command = new Command('list')
    .description('List the collections; numbers of documents are estimates')
    .helpOption('-h, --help', 'print this help')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Examples:
  dualstore collections list
  dualstore collections list --url http://127.0.0.1:3000 --json | jq '.[].name'`,
    )
    .action(async (flags: ConnectionFlags & { json?: boolean }) => {
      const collections = await withClient(flags, (client) => client.list())
      const rows = collections.map((collection) => [
        collection.name,
        collection.label,
        collection.id_prefix,
        collection.documents,
        collection.version,
        collection.shipped ? 'shipped' : 'custom',
      ])
      await print(
        {
          json: collections,
          text: [{ head: ['NAME', 'LABEL', 'ID PREFIX', 'DOCUMENTS', 'VERSION', 'KIND'], rows }],
        },
        flags,
      )
    })
  return addConnection(command)
}

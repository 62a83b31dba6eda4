import { Command } from 'commander'
import { openKeys } from '../../client/keys.js'
import { addConnection, type ConnectionFlags, withOpened } from '../../client/open.js'
import { print } from '../../output.js'

export function listKeysCommand(): Command {
  const command = new Command('list')
    .description('List the keys, the oldest first; never their secrets')
    .helpOption('-h, --help', 'print this help')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Examples:
  dualstore keys list
  dualstore keys list --json | jq '.[] | select(.status == "active") | .name'`,
    )
    .action(async (flags: ConnectionFlags & { json?: boolean }) => {
      const keys = await withOpened(
        () => openKeys(flags),
        (client) => client.list(),
      )
      const head = ['ID', 'NAME', 'ROLE', 'STATUS', 'READ', 'WRITE', 'ROWS', 'EXPIRES', 'LAST USED']
      const rows = keys.map((key) => [
        key.id,
        key.name,
        key.role,
        key.status,
        key.scopes.read.join(', '),
        key.scopes.write.join(', '),
        key.rows,
        key.expires_at,
        key.last_used_at,
      ])
      await print({ json: keys, text: [{ head, rows }] }, flags)
    })
  return addConnection(command)
}

import { Command } from 'commander'
import { openKeys } from '../../client/keys.js'
import { addConnection, type ConnectionFlags, withOpened } from '../../client/open.js'
import { print, printable, say } from '../../output.js'

export function revokeKeyCommand(): Command {
  const command = new Command('revoke')
    .description('End a key now and for good, on every running server within a second')
    .helpOption('-h, --help', 'print this help')
    .argument('<id>', 'id of the key, the part behind dsk_')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Examples:
  dualstore keys revoke 4WbXk1yPq0Zt
  dualstore keys revoke 4WbXk1yPq0Zt --url http://127.0.0.1:3000 --key-file admin.key`,
    )
    .action(async (id: string, flags: ConnectionFlags & { json?: boolean }) => {
      const key = await withOpened(
        () => openKeys(flags),
        (keys) => keys.revoke(id),
      )
      say(`revoked ${key.id} (${printable(key.name)})`)
      await print({ json: key, text: [] }, flags)
    })
  return addConnection(command)
}

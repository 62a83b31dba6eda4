import { Command } from 'commander'
import { DualstoreError } from '../../../server/errors.js'
import { addConnection, type ConnectionFlags, withClient } from '../../client/open.js'
import { sayWhenMirrorWaits } from '../../mirror-note.js'
import { counted, print, say } from '../../output.js'
import { askText, interactive } from '../../prompt.js'

type DeleteFlags = ConnectionFlags & { yes?: boolean; json?: boolean }

export function deleteCommand(): Command {
  const command = new Command('delete')
    .description('Delete a collection with all of its documents; asks for its name')
    .helpOption('-h, --help', 'print this help')
    .argument('<name>', 'the collection')
    .option('--yes', 'do not ask')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
An interrupted delete is continued by asking again. Collections that are shipped with dualstore cannot be deleted.

Examples:
  dualstore collections delete notes
  dualstore collections delete notes --yes --url http://127.0.0.1:3000`,
    )
    .action(async (name: string, flags: DeleteFlags) => {
      if (!flags.yes && !interactive()) {
        throw new DualstoreError(
          'CONFIRMATION_REQUIRED',
          `--yes is missing: this deletes ${name} and all of its documents, and there is no terminal to ask on`,
        )
      }
      const deleted = await withClient(flags, async (client) => {
        if (!flags.yes) {
          const { documents } = await client.show(name)
          const typed = await askText(
            `This deletes ${counted(documents, 'document')} of ${client.where}. Type ${name} to go on:`,
          )
          if (typed !== name)
            throw new DualstoreError('CONFLICT', `"${typed}" is not "${name}": nothing was deleted`)
        }
        const count = await client.drop(name)
        await sayWhenMirrorWaits(client, count)
        return count
      })
      say(`deleted ${name} with ${counted(deleted, 'document')}`)
      await print({ json: { name, deleted }, text: [] }, flags)
    })
  return addConnection(command)
}

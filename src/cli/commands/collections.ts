import { Command } from 'commander'
import { countCommand } from './collections/count.js'
import { createCommand } from './collections/create.js'
import { deleteCommand } from './collections/delete.js'
import { exportCommand } from './collections/export.js'
import { importCommand } from './collections/import.js'
import { listCommand } from './collections/list.js'
import { showCommand } from './collections/show.js'
import { updateCommand } from './collections/update.js'

export function collectionsCommand(): Command {
  const command = new Command('collections').helpOption('-h, --help', 'print this help').addHelpText(
    'after',
    `
Every command works on the local stores, or with --url (or DUALSTORE_URL) on a running server.

Examples:
  dualstore collections list
  dualstore collections create notes --schema notes.schema.json
  dualstore collections export agent_tasks | gzip > tasks.ndjson.gz`,
  )
  const children = [listCommand(), showCommand(), createCommand(), updateCommand(), deleteCommand()]
  for (const child of [...children, importCommand(), exportCommand(), countCommand()]) {
    command.addCommand(child)
  }
  return command
}

import { Command } from 'commander'
import { withMirrors } from '../../client/mirrors.js'
import { addConnection, type ConnectionFlags } from '../../client/open.js'
import { counted, print, say } from '../../output.js'

export function resumeCommand(): Command {
  const command = new Command('resume')
    .description('Let a paused mirror go on where it stopped')
    .helpOption('-h, --help', 'print this help')
    .argument('[name]', 'the mirror', 'mirror')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Examples:
  dualstore mirror resume
  dualstore mirror resume --url http://127.0.0.1:3000 --json`,
    )
    .action(async (name: string, flags: ConnectionFlags & { json?: boolean }) => {
      const status = await withMirrors(flags, (client) => client.resume(name))
      say(`resumed ${name} at ${status.position}, ${counted(status.lag.changes, 'change')} behind`)
      await print({ json: status, text: [] }, flags)
    })
  return addConnection(command)
}

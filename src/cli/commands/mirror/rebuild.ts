import { Command } from 'commander'
import { withMirrors } from '../../client/mirrors.js'
import { addConnection, type ConnectionFlags } from '../../client/open.js'
import { sayNoLeader } from '../../mirror-lines.js'
import { print, say } from '../../output.js'

type RebuildFlags = ConnectionFlags & { restart?: boolean; json?: boolean }

export function rebuildCommand(): Command {
  const command = new Command('rebuild')
    .description('Build the mirror anew from PostgreSQL, under its readers')
    .helpOption('-h, --help', 'print this help')
    .argument('[name]', 'the mirror', 'mirror')
    .option('--restart', 'begin again although a rebuild is under way')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
A server does it in the background; "dualstore mirror status --watch" shows how far it is. Programs that read the
mirror never see a document missing that exists. Documents of other programs are left alone. It also brings back a
mirror that is lost, and lets a paused one run.

Examples:
  dualstore mirror rebuild
  dualstore mirror rebuild --restart --url http://127.0.0.1:3000`,
    )
    .action(async (name: string, flags: RebuildFlags) => {
      const status = await withMirrors(flags, (client) => client.rebuild(name, flags.restart ?? false))
      say(`${name} is to be rebuilt; "dualstore mirror status --watch" shows how far it is`)
      sayNoLeader(status)
      await print({ json: status, text: [] }, flags)
    })
  return addConnection(command)
}

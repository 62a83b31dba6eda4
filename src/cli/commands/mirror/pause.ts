import { Command } from 'commander'
import { withMirrors } from '../../client/mirrors.js'
import { addConnection, type ConnectionFlags } from '../../client/open.js'
import { sayNoLeader } from '../../mirror-lines.js'
import { print, say } from '../../output.js'

type PauseFlags = ConnectionFlags & { reason?: string; json?: boolean }

export function pauseCommand(): Command {
  const command = new Command('pause')
    .description('Let changes wait in the log instead of mirroring them')
    .helpOption('-h, --help', 'print this help')
    .argument('[name]', 'the mirror', 'mirror')
    .option('--reason <text>', 'why, for whoever looks at the status')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Writes go on; strict ones are refused while it is paused. The log keeps what the mirror lacks as long as its retention
says and no longer: a mirror that is paused for longer than that is lost, and has to be rebuilt.

Examples:
  dualstore mirror pause
  dualstore mirror pause --reason "MongoDB is being moved" --url http://127.0.0.1:3000`,
    )
    .action(async (name: string, flags: PauseFlags) => {
      const status = await withMirrors(flags, (client) => client.pause(name, flags.reason))
      say(`paused ${name}: changes wait in the log from now on`)
      sayNoLeader(status)
      await print({ json: status, text: [] }, flags)
    })
  return addConnection(command)
}

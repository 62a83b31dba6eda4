import { Command } from 'commander'
import { opencodeCommand } from './ingest/opencode.js'

export function ingestCommand(): Command {
  return new Command('ingest')
    .helpOption('-h, --help', 'print this help')
    .addHelpText('after', '\nExamples:\n  dualstore ingest opencode --from http://127.0.0.1:4096')
    .addCommand(opencodeCommand())
}

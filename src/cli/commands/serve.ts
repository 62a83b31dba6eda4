import { Command } from 'commander'
import { addSettings, allSettings, loadSettings, type SettingFlags } from '../settings-options.js'

export function serveCommand(): Command {
  const command = new Command('serve')
    .helpOption('-h, --help', 'print this help')
    .addHelpText(
      'after',
      `
Every setting is a flag, an environment variable or a line of the configuration file, in this order of precedence.
Secrets are better given by environment or file: other users can see a command line.

Examples:
  dualstore serve                                        embedded stores under ./.dualstore
  dualstore serve --port 8080 --data-dir /var/lib/dualstore
  DATABASE_URL=postgresql://u:p@db/app MONGODB_URI=mongodb://mongo dualstore serve --host 0.0.0.0
  dualstore serve --config /etc/dualstore.yaml --log-level debug`,
    )
    .action(async (flags: SettingFlags) => {
      const loaded = await loadSettings(flags)
      const { serve } = await import('../../server/start.js')
      await serve(loaded)
    })
  return addSettings(command, allSettings)
}

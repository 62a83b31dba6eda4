import { Command } from 'commander'
import { print, say } from '../output.js'
import { addSettings, allSettings, loadSettings, type SettingFlags } from '../settings-options.js'

export function configCommand(): Command {
  const command = new Command('config')
    .helpOption('-h, --help', 'print this help')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Takes the flags of "serve" as well, so that a command line can be checked before it is used.

Examples:
  dualstore config
  dualstore config --json | jq '.settings[] | select(.origin != "default")'
  PORT=8080 dualstore config --config /etc/dualstore.yaml`,
    )
    .action(async (flags: SettingFlags & { json?: boolean }) => {
      const [{ effective, withoutEffect }, { masked }] = await Promise.all([
        loadSettings(flags),
        import('../../server/config/load.js'),
      ])
      const shown = effective.map((setting) => ({ ...setting, value: masked(setting) }))
      await print(
        {
          json: {
            settings: shown.map(({ key, value, origin }) => ({ key, value: value ?? null, origin })),
            without_effect: withoutEffect,
          },
          text: [
            {
              head: ['SETTING', 'VALUE', 'ORIGIN'],
              rows: shown.map(({ key, value, origin }) => [key, value, origin]),
            },
          ],
        },
        flags,
      )
      for (const name of withoutEffect) say(`note: ${name} has no effect in this version`)
    })
  return addSettings(command, allSettings)
}

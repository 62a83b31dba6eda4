import { Command, Option } from 'commander'
import { PRUNE_SECONDS } from '../../../server/schemas/key-defaults.js'
import { openKeys } from '../../client/keys.js'
import { addConnection, type ConnectionFlags, withOpened } from '../../client/open.js'
import { parseDuration } from '../../duration.js'
import { counted, print, say } from '../../output.js'

export function pruneKeysCommand(): Command {
  const command = new Command('prune')
    .description('Remove keys that were revoked or expired some time ago; what they did stays in the audit')
    .helpOption('-h, --help', 'print this help')
    .addOption(
      new Option('--older-than <duration>', 'how long ago they ended')
        .argParser(parseDuration)
        .default(PRUNE_SECONDS * 1000, '30d'),
    )
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Examples:
  dualstore keys prune
  dualstore keys prune --older-than 0 --json`,
    )
    .action(async (flags: ConnectionFlags & { olderThan: number; json?: boolean }) => {
      const removed = await withOpened(
        () => openKeys(flags),
        (keys) => keys.prune(flags.olderThan),
      )
      say(`removed ${counted(removed.length, 'key')}`)
      await print({ json: { removed }, text: [removed.join('\n')] }, flags)
    })
  return addConnection(command)
}

import { Command, Option } from 'commander'
import { OVERLAP_SECONDS } from '../../../server/schemas/key-defaults.js'
import { openKeys } from '../../client/keys.js'
import { addConnection, type ConnectionFlags, withOpened } from '../../client/open.js'
import { parseDuration } from '../../duration.js'
import { printNewKey } from './show.js'

type RotateFlags = ConnectionFlags & { overlap: number; quiet?: boolean; json?: boolean }

export function rotateKeyCommand(): Command {
  const command = new Command('rotate')
    .description('Give a key another secret; the present one stays good for a while')
    .helpOption('-h, --help', 'print this help')
    .argument('<id>', 'id of the key, the part behind dsk_')
    .addOption(
      new Option('--overlap <duration>', 'how long the present secret stays good; 0 ends it at once')
        .argParser(parseDuration)
        .default(OVERLAP_SECONDS * 1000, '1h'),
    )
    .option('--quiet', 'print the key alone')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
A secret that others have seen is rotated with --overlap 0, or the key revoked.

Examples:
  dualstore keys rotate 4WbXk1yPq0Zt
  dualstore keys rotate 4WbXk1yPq0Zt --overlap 7d --quiet > new.key`,
    )
    .action(async (id: string, flags: RotateFlags) => {
      await printNewKey(
        await withOpened(
          () => openKeys(flags),
          (keys) => keys.rotate(id, flags.overlap),
        ),
        flags,
      )
    })
  return addConnection(command)
}

import { Command, InvalidArgumentError } from 'commander'
import { DualstoreError } from '../../../server/errors.js'
import { type MirrorsClient, withMirrors } from '../../client/mirrors.js'
import { addConnection, type ConnectionFlags } from '../../client/open.js'
import { counted, print, say } from '../../output.js'
import { askText, interactive } from '../../prompt.js'

type SetPositionFlags = ConnectionFlags & { mirror: string; force?: boolean; yes?: boolean; json?: boolean }
type Counts = { skipped: number; replayed: number }

export function setPositionCommand(): Command {
  const command = new Command('set-position')
    .description('Let a paused mirror go on from another place of the log; asks for its name')
    .helpOption('-h, --help', 'print this help')
    .argument('<position>', 'where to go on from, such as 5f0c2a91-4711', parsePosition)
    .option('--mirror <name>', 'the mirror', 'mirror')
    .option('--force', 'go forward although changes are skipped')
    .option('--yes', 'do not ask')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Going back applies changes again, which is harmless. Going forward skips changes: the mirror then lacks them until it is
rebuilt or repaired.

Examples:
  dualstore mirror pause && dualstore mirror set-position 5f0c2a91-4711 --yes && dualstore mirror resume
  dualstore mirror set-position 5f0c2a91-9000 --force --url http://127.0.0.1:3000`,
    )
    .action(async (position: string, flags: SetPositionFlags) => {
      const { mirror: name, force } = flags
      const moved = await withMirrors(flags, async (client) => {
        if (!flags.yes) await confirmed(client, name, { position, force })
        return client.setPosition(name, { position, force, confirm: name })
      })
      say(`${name} goes on from ${moved.to} when it is resumed: ${effectOf(moved)}`)
      await print({ json: moved, text: [] }, flags)
    })
  return addConnection(command)
}

/** Says what would happen, and has the name typed. @throws CONFIRMATION_REQUIRED off a terminal */
async function confirmed(
  client: MirrorsClient,
  name: string,
  request: { position: string; force: boolean | undefined },
): Promise<void> {
  // Without the name nothing happens but an answer that tells what would.
  const effect = await client.setPosition(name, request).then(
    () => '',
    (error: unknown) => {
      if (error instanceof DualstoreError && error.code === 'CONFIRMATION_REQUIRED')
        return effectOf(error.extra as Counts)
      throw error
    },
  )
  if (!interactive()) {
    throw new DualstoreError(
      'CONFIRMATION_REQUIRED',
      `--yes is missing: of ${name} ${effect}, and there is no terminal to ask on`,
    )
  }
  const typed = await askText(`Of ${client.where} ${effect}. Type ${name} to go on:`)
  if (typed !== name) throw new DualstoreError('CONFLICT', `"${typed}" is not "${name}": nothing was changed`)
}

function effectOf({ skipped, replayed }: Counts): string {
  return skipped > 0
    ? `${counted(skipped, 'change')} would be skipped`
    : `${counted(replayed, 'change')} would be applied again`
}

function parsePosition(text: string): string {
  if (/^[0-9a-f]{8}-\d{1,15}$/.test(text)) return text
  throw new InvalidArgumentError('It must be a position such as 5f0c2a91-4711.')
}

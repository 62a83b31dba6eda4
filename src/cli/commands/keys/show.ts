import { Command } from 'commander'
import type { KeyAnswer, NewKeyAnswer } from '../../../server/schemas/key.js'
import { openKeys } from '../../client/keys.js'
import { addConnection, type ConnectionFlags, withOpened } from '../../client/open.js'
import { print, type Result, say } from '../../output.js'

export function showKeyCommand(): Command {
  const command = new Command('show')
    .description('Show a key: what it may do, until when, and when it was last used; never its secret')
    .helpOption('-h, --help', 'print this help')
    .argument('<id>', 'id of the key, the part behind dsk_')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Examples:
  dualstore keys show 4WbXk1yPq0Zt
  dualstore keys show 4WbXk1yPq0Zt --json | jq .last_used_at`,
    )
    .action(async (id: string, flags: ConnectionFlags & { json?: boolean }) => {
      await print(
        describedKey(
          await withOpened(
            () => openKeys(flags),
            (keys) => keys.show(id),
          ),
        ),
        flags,
      )
    })
  return addConnection(command)
}

/** A key as show, create and the others print it. */
export function describedKey(key: KeyAnswer | NewKeyAnswer): Result {
  const { scopes, ...plain } = key
  const rows = [
    ...Object.entries(plain),
    ['read', scopes.read.join(', ')],
    ['write', scopes.write.join(', ')],
  ]
  return { json: key, text: [{ head: ['FIELD', 'VALUE'], rows }] }
}

/** Prints a key that is told this once: alone on its line with `quiet`. */
export async function printNewKey(
  key: NewKeyAnswer,
  { quiet, json }: { quiet?: boolean; json?: boolean },
): Promise<void> {
  if (quiet) {
    process.stdout.write(`${key.key}\n`)
    return
  }
  say('the key is shown this once; keep it where secrets are kept')
  await print(describedKey(key), { json })
}

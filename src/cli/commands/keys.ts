import { Command } from 'commander'
import { createKeyCommand } from './keys/create.js'
import { listKeysCommand } from './keys/list.js'
import { pruneKeysCommand } from './keys/prune.js'
import { revokeKeyCommand } from './keys/revoke.js'
import { rotateKeyCommand } from './keys/rotate.js'
import { showKeyCommand } from './keys/show.js'

export function keysCommand(): Command {
  const command = new Command('keys').helpOption('-h, --help', 'print this help').addHelpText(
    'after',
    `
Every command works on the local stores, or with --url (or DUALSTORE_URL) on a running server, as an admin there.

Examples:
  dualstore keys create --role admin --name first
  dualstore keys create --role reader --name dashboard --read 'agent_*' --expires-in 90d
  dualstore keys list`,
  )
  for (const child of [
    createKeyCommand(),
    listKeysCommand(),
    showKeyCommand(),
    rotateKeyCommand(),
    revokeKeyCommand(),
    pruneKeysCommand(),
  ]) {
    command.addCommand(child)
  }
  return command
}

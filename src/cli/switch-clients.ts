import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Command } from 'commander'
import { Option } from 'commander'
import type { Patience } from '../migrate/patience.js'
import { DualstoreError } from '../server/errors.js'
import { say } from './output.js'
import { askText, interactive } from './prompt.js'

export interface SwitchFlags {
  switchCommand?: string
  yes?: boolean
}

export function addSwitch(command: Command, where: string): Command {
  return command
    .addOption(
      new Option(
        '--switch-command <command>',
        `what leads the clients to ${where}; a shell runs it, and it must exit with 0`,
      ),
    )
    .option('--yes', 'do not ask: without --switch-command the clients are taken for switched')
}

/**
 * How the clients are led elsewhere: by the operator's command, by the operator, who is asked, or not at all.
 * @throws CONFIRMATION_REQUIRED when there is neither a command nor anybody to ask
 */
export function switching(
  { switchCommand, yes }: SwitchFlags,
  { patience, where }: { patience: Patience; where: string },
): () => Promise<void> {
  if (switchCommand !== undefined) return () => run(switchCommand, patience)
  if (yes) return async () => {}
  if (!interactive()) {
    throw new DualstoreError(
      'CONFIRMATION_REQUIRED',
      '--switch-command or --yes is missing, and there is no terminal to ask on',
    )
  }
  return async () => {
    await askText(`Lead the clients to ${where} now, and press Enter when it is done:`)
  }
}

/** @throws CONFLICT when it does not exit with 0; WAIT_TIMEOUT; the signal's reason when it was aborted */
async function run(command: string, { signal, leftMs }: Patience): Promise<void> {
  say(`running ${command}`)
  const late = AbortSignal.timeout(Math.round(leftMs()))
  // What it prints is not the result of this command.
  const child = spawn(command, {
    shell: true,
    stdio: ['ignore', 2, 2],
    signal: AbortSignal.any([signal, late]),
  })
  try {
    const [code, killedBy] = await once(child, 'close')
    if (code === 0) return
    throw new DualstoreError(
      'CONFLICT',
      `--switch-command ended with ${code ?? killedBy}: the clients are not switched`,
    )
  } catch (error) {
    signal.throwIfAborted()
    if (late.aborted) throw new DualstoreError('WAIT_TIMEOUT', '--switch-command did not end in time')
    throw error
  }
}

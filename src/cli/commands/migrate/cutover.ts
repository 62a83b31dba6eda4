import { Command, Option } from 'commander'
import { parseDuration } from '../../duration.js'
import { say } from '../../output.js'
import { addSwitch, type SwitchFlags, switching } from '../../switch-clients.js'
import { addStep, type StepFlags, withStep } from './steps.js'

type CutOverFlags = StepFlags & SwitchFlags & { adopt?: boolean; verifyWithin: number }

export function migrationCutOverCommand(): Command {
  const command = new Command('cutover')
    .description('Switch the clients to dualstore, when everything was taken over and verified')
    .option(
      '--adopt',
      'where source and mirror are one: replace the legacy documents, which an archive keeps',
    )
    .addOption(
      new Option('--verify-within <duration>', 'how old the last clean verification may be')
        .argParser(parseDuration)
        .default(3_600_000, '1h'),
    )
    .addHelpText(
      'after',
      `
Needs a follower (--follow) that runs, and a clean verification. Waits until everything was taken in that the legacy
server has written, has the clients switched, and waits until everything was taken in that was written until then. When
it fails or is interrupted before that, the migration stays verified, and the same command begins again. The follower
goes on, for what a forgotten client still writes.

Examples:
  dualstore migrate-from-dualstore-http cutover
  dualstore migrate-from-dualstore-http cutover --switch-command 'ssh balancer switch-to dualstore' --timeout 5m
  dualstore migrate-from-dualstore-http cutover --adopt --yes`,
    )
    .action(async (flags: CutOverFlags) => {
      const { adopt = false, verifyWithin: verifyWithinMs } = flags
      await withStep(flags, async (options) => {
        const { cutOver } = await import('../../../migrate/cutover.js')
        const migration = await cutOver({
          ...options,
          adopt,
          verifyWithinMs,
          switching: () => switching(flags, { patience: options.patience, where: 'dualstore' }),
        })
        say('cut over: "rollback" leads back until "finish" ends the migration')
        return migration
      })
    })
  return addStep(addSwitch(command, 'dualstore'))
}

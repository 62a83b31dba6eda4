import { Command } from 'commander'
import { DualstoreError } from '../../../server/errors.js'
import { counted, say } from '../../output.js'
import { addStep, type StepFlags, withStep } from './steps.js'

export function migrationFinishCommand(): Command {
  const command = new Command('finish')
    .description('End a migration that was cut over, and its follower; nothing leads back from here')
    .option('--drop-archive', 'after --adopt: remove the legacy documents that were kept, for good')
    .option('--yes', 'yes, remove them')
    .addHelpText(
      'after',
      `
Examples:
  dualstore migrate-from-dualstore-http finish
  dualstore migrate-from-dualstore-http finish --drop-archive --yes`,
    )
    .action(async (flags: StepFlags & { dropArchive?: boolean; yes?: boolean }) => {
      if (flags.dropArchive && !flags.yes) {
        throw new DualstoreError(
          'CONFIRMATION_REQUIRED',
          '--yes is missing: --drop-archive removes the legacy documents that were kept, for good',
        )
      }
      await withStep(flags, async (options) => {
        const { finish } = await import('../../../migrate/cutover.js')
        const migration = await finish(options)
        if (flags.dropArchive && options.adoption !== undefined) {
          say(`${counted(await options.adoption.dropArchive(), 'document')} removed from the archive`)
        }
        return migration
      })
    })
  return addStep(command)
}

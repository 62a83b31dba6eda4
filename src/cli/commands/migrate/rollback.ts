import { Command } from 'commander'
import { say } from '../../output.js'
import { addSwitch, type SwitchFlags, switching } from '../../switch-clients.js'
import { addStep, type StepFlags, withStep } from './steps.js'

const WHERE = 'the legacy server, on the MongoDB of the mirror'

export function migrationRollbackCommand(): Command {
  const command = new Command('rollback')
    .description('Go back to the legacy server, which goes on from where dualstore stands; until finish')
    .addHelpText(
      'after',
      `
Waits until the mirror holds every write, has the clients switched back, waits again, and pauses the mirror. Start the
legacy server on the mirror before they are switched: MONGODB_URI and AGENT_NAME as dualstore has them. Before the
cut-over the migration is only given up, and nobody is switched. After --adopt the legacy documents are put back that
dualstore has not changed since.

Examples:
  dualstore migrate-from-dualstore-http rollback
  dualstore migrate-from-dualstore-http rollback --switch-command 'ssh balancer switch-to legacy' --json`,
    )
    .action(async (flags: StepFlags & SwitchFlags) => {
      await withStep(flags, async (options, config) => {
        const { rollBack } = await import('../../../migrate/cutover.js')
        const migration = await rollBack({
          ...options,
          switching: () => switching(flags, { patience: options.patience, where: WHERE }),
        })
        if (migration.switch_position === null) say('given up: the clients were never switched')
        else {
          const { mongodbDatabase, agentName } = config
          say(
            `rolled back: the mirror is paused and holds every write. The legacy server goes on there: MONGODB_URI as ` +
              `the mirror's, database "${mongodbDatabase}", AGENT_NAME=${agentName}`,
          )
        }
        return migration
      })
    })
  return addStep(addSwitch(command, 'the legacy server'))
}

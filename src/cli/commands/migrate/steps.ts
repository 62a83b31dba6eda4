import { type Command, Option } from 'commander'
import type { StepOptions } from '../../../migrate/cutover.js'
import { statusOf } from '../../../migrate/report.js'
import type { Config } from '../../../server/config/index.js'
import type { SettingKey } from '../../../server/config/settings.js'
import type { Migration } from '../../../server/services/migrations.js'
import { localAccess } from '../../../server/services/principal.js'
import { parseDuration } from '../../duration.js'
import { withLocalStores } from '../../local-context.js'
import { statusLine } from '../../migration-lines.js'
import { print, say } from '../../output.js'
import { EXIT_INTERRUPTED } from '../../report.js'
import { addSettings } from '../../settings-options.js'
import { migrationSettings } from './settings.js'

export interface StepFlags {
  timeout: number
  json?: boolean
}

/** The last one only where the source is the mirror, too. */
const stepSettings: readonly SettingKey[] = [
  ...migrationSettings,
  'mongodbUri',
  'mongodbDatabase',
  'agentName',
]

export function addStep(command: Command): Command {
  command
    .helpOption('-h, --help', 'print this help')
    .addOption(
      new Option('--timeout <duration>', 'how long it may take altogether')
        .argParser(parseDuration)
        .default(600_000, '10m'),
    )
    .option('--json', 'print the status afterwards as one JSON document')
  return addSettings(command, stepSettings, 'Local stores')
}

/** Does a step of the state machine, tells what it waits for, and prints where the migration stands then. */
export async function withStep(
  flags: StepFlags,
  work: (options: StepOptions, config: Config) => Promise<Migration>,
): Promise<void> {
  await withLocalStores(flags, { migrate: 'embedded' }, async (context, signal) => {
    const { config, migrations, overview, mirrorControl } = context
    const [{ createPatience }, { openAdoption, mirrorPlace }] = await Promise.all([
      import('../../../migrate/patience.js'),
      import('../../../migrate/adopt.js'),
    ])
    const current = await migrations.current()
    const place = mirrorPlace(config)
    const collections = current?.collections.map(({ collection }) => collection) ?? []
    const adoption =
      current?.adopt && place !== undefined
        ? openAdoption({ ...place, migrations, collections, signal })
        : undefined
    const patience = createPatience(flags.timeout, signal, (what) => say(`waiting: ${what}`))
    try {
      const options = { migrations, overview, mirrorControl, access: localAccess, patience, adoption }
      const status = statusOf(await work(options, config))
      await print({ json: status, text: [statusLine(status)] }, flags)
    } catch (error) {
      if (!signal.aborted) throw error
      const state = (await migrations.current())?.state
      say(`interrupted: the migration is ${state}, and the same command goes on`)
      process.exitCode = EXIT_INTERRUPTED
    } finally {
      await adoption?.close()
    }
  })
}

import { Command, InvalidArgumentError } from 'commander'
import type { Plan } from '../../migrate/plan.js'
import type { Source } from '../../migrate/sources/contract.js'
import type { Context } from '../../server/context.js'
import { invalid } from '../../server/errors.js'
import { localAccess } from '../../server/services/principal.js'
import { withLocalStores } from '../local-context.js'
import { planText, reportText, sayPlan } from '../migration-lines.js'
import { showMigration } from '../migration-progress.js'
import { counted, print, printable, say } from '../output.js'
import { showProgress } from '../progress.js'
import { EXIT_INTERRUPTED } from '../report.js'
import { addSettings } from '../settings-options.js'
import { checkAdoption, restMirror } from './migrate/adopting.js'
import { migrationCutOverCommand } from './migrate/cutover.js'
import { migrationFinishCommand } from './migrate/finish.js'
import { migrationHistoryCommand } from './migrate/history.js'
import { migrationQuarantineCommand } from './migrate/quarantine.js'
import { quarantineTarget, writeQuarantine } from './migrate/quarantine-file.js'
import { migrationRollbackCommand } from './migrate/rollback.js'
import { migrationSettings } from './migrate/settings.js'
import { addSource, openSource, type SourceFlags } from './migrate/source.js'
import { migrationStatusCommand } from './migrate/status.js'
import { migrationVerifyCommand } from './migrate/verify.js'

interface MigrateFlags extends SourceFlags {
  collections?: string[]
  dryRun?: boolean
  sample?: number
  follow?: boolean
  adopt?: boolean
  config?: string
  rate?: number
  poll: number
  quarantine?: string
  yes?: boolean
  json?: boolean
}

/** How long the mirror may take to come to rest. */
const REST_MS = 60_000

export function migrateCommand(): Command {
  const command = new Command('migrate-from-dualstore-http')
    .helpOption('-h, --help', 'print this help')
    // What stands behind a subcommand is the subcommand's, although some of it is called alike here.
    .enablePositionalOptions()
    .option('--collections <names>', 'only these, comma-separated; all that are there by default', names)
    .option('--dry-run', 'read everything and tell what would be done; write nothing')
    .option('--sample <documents>', 'with --dry-run: read so many of each collection', positive)
    .option('--follow', 'then go on taking what is written to the source, until it is interrupted')
    .option('--adopt', 'the source is the mirror too: yes, replace its documents at the cut-over')
    .option('--rate <documents>', 'take so many documents a second at most', positive)
    .option('--batch <documents>', 'documents in one transaction', positive, 1000)
    .option(
      '--poll <ms>',
      'with --follow: how often to look, where the source has no change stream',
      positive,
      1000,
    )
    .option(
      '--quarantine <file>',
      'where to write what could not be taken; <migration>.quarantine.ndjson by default',
    )
    .option('--yes', 'overwrite that file although something else is in it')
    .option('--json', 'print the report as one JSON document')
    .addHelpText(
      'after',
      `
Can be interrupted, and killed, at any moment: the same command goes on where it ended. When everything was taken, it
reads everything once more and changes only what was changed meanwhile. Never overwrites a newer document.

Examples:
  dualstore migrate-from-dualstore-http --mongo-uri mongodb://127.0.0.1:27017 --dry-run
  dualstore migrate-from-dualstore-http --mongo-uri mongodb://127.0.0.1:27017 --agent-name duck
  dualstore migrate-from-dualstore-http --mongo-uri mongodb://127.0.0.1:27017 --follow
  dualstore migrate-from-dualstore-http --url http://127.0.0.1:3000 --accept-loss
  dualstore migrate-from-dualstore-http status --watch
  dualstore migrate-from-dualstore-http verify --mongo-uri mongodb://127.0.0.1:27017`,
    )
    .action(async (flags: MigrateFlags) => {
      if (flags.sample !== undefined && !flags.dryRun) throw invalid('--sample', 'needs --dry-run')
      if (flags.dryRun && flags.follow) throw invalid('--follow', 'cannot be together with --dry-run')
      await checkAdoption(flags)
      const named = flags.quarantine
      if (named !== undefined && !flags.dryRun) await quarantineTarget(named, flags.yes)
      await withLocalStores(flags, { migrate: 'any' }, async (context, signal) => {
        const source = await openSource(flags, context.log, { look: flags.dryRun ?? false })
        try {
          await (flags.dryRun ? plan : run)(context, source, flags, signal)
        } finally {
          await source.close()
        }
      })
    })
  addSettings(addSource(command), migrationSettings, 'Local stores')
  return command
    .addCommand(migrationStatusCommand())
    .addCommand(migrationVerifyCommand())
    .addCommand(migrationCutOverCommand())
    .addCommand(migrationRollbackCommand())
    .addCommand(migrationFinishCommand())
    .addCommand(migrationQuarantineCommand())
    .addCommand(migrationHistoryCommand())
}

async function plan(
  { migrations }: Context,
  source: Source,
  flags: MigrateFlags,
  signal: AbortSignal,
): Promise<void> {
  const { planMigration } = await import('../../migrate/plan.js')
  let read = 0
  const progress = await showProgress({
    label: 'reading',
    documents: () => read,
    done: () => read,
    total: undefined,
  })
  let made: Plan
  try {
    const { collections, sample, rate } = flags
    const onProgress = (documents: number) => {
      read = documents
    }
    made = await planMigration({ source, migrations, collections, sample, rate, signal, onProgress })
  } finally {
    progress.stop()
  }
  if (signal.aborted) process.exitCode = EXIT_INTERRUPTED
  await print({ json: made, text: planText(made) }, flags)
  sayPlan(made)
}

async function run(
  context: Context,
  source: Source,
  flags: MigrateFlags,
  signal: AbortSignal,
): Promise<void> {
  const { migrations } = context
  const [{ runMigration }, { reportOf }, { createPatience }] = await Promise.all([
    import('../../migrate/run.js'),
    import('../../migrate/report.js'),
    import('../../migrate/patience.js'),
  ])
  if (flags.adopt) await restMirror(context, createPatience(REST_MS, signal))
  const shown = showMigration()
  const end = await runMigration({
    source,
    migrations,
    access: localAccess,
    collections: flags.collections,
    follow: flags.follow ?? false,
    adopt: flags.adopt ?? false,
    rate: flags.rate,
    pollMs: flags.poll,
    signal,
    onProgress: shown.update,
    onOutage: (error) => say(`waiting: ${printable(error.message)}`),
  }).finally(() => shown.stop())
  const { migration, interrupted } = end
  const quarantined = migration.collections.reduce((sum, one) => sum + one.quarantined, 0)
  const file = flags.quarantine ?? (quarantined > 0 ? `${migration.id}.quarantine.ndjson` : undefined)
  if (file !== undefined) {
    await writeQuarantine(await quarantineTarget(file, flags.yes), migrations.quarantine(migration.id))
  }
  const report = reportOf(migration, { ...end, quarantineFile: file ?? null })
  await print({ json: report, text: reportText(report) }, flags)
  say(`${counted(end.taken, 'document')} taken in at ${report.rate}/s; the migration is ${migration.state}`)
  if (quarantined > 0) say(`note: ${counted(quarantined, 'document')} could not be taken: see ${file}`)
  if (!interrupted) return
  say('interrupted: the same command goes on from here')
  process.exitCode = EXIT_INTERRUPTED
}

function names(text: string): string[] {
  const given = text.split(',').map((name) => name.trim())
  if (given.some((name) => name === '')) throw new InvalidArgumentError('must be names, comma-separated')
  return [...new Set(given)]
}

function positive(text: string): number {
  const value = Number(text)
  if (Number.isInteger(value) && value > 0) return value
  throw new InvalidArgumentError('must be a whole number above 0')
}

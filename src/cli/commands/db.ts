import { Command } from 'commander'
import type { SettingKey } from '../../server/config/settings.js'
import { counted, print, say } from '../output.js'
import { EXIT_FOUND } from '../report.js'
import { addSettings, loadSettings, type SettingFlags } from '../settings-options.js'

const databaseSettings: readonly SettingKey[] = ['databaseUrl', 'dataDir', 'logLevel']
type DatabaseFlags = SettingFlags & { json?: boolean }

export function dbCommand(): Command {
  return new Command('db')
    .helpOption('-h, --help', 'print this help')
    .addHelpText('after', '\nExamples:\n  dualstore db status\n  dualstore db migrate')
    .addCommand(migrateCommand())
    .addCommand(statusCommand())
}

function migrateCommand(): Command {
  const command = new Command('migrate')
    .description(
      'Bring the database to the version of this program; safe to repeat and to run several times at once',
    )
    .helpOption('-h, --help', 'print this help')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
"serve" does the same when it starts.

Examples:
  dualstore db migrate
  DATABASE_URL=postgresql://user:secret@host/db dualstore db migrate --json`,
    )
    .action(async (flags: DatabaseFlags) => {
      const applied = await onDatabase(flags, async (pool, { migrate }) => migrate(pool))
      const rows = applied.map(({ version, name }) => ({ version, name }))
      const count = counted(rows.length, 'migration')
      await print(
        {
          json: { applied: rows },
          text: [
            rows.length === 0 ? 'nothing to do: the database is up to date' : `applied ${count}`,
            ...rows.map(({ version, name }) => `${version}\t${name}`),
          ],
        },
        flags,
      )
    })
  return addSettings(command, databaseSettings)
}

function statusCommand(): Command {
  const command = new Command('status')
    .description('Tell which migrations are applied and pending; changes nothing')
    .helpOption('-h, --help', 'print this help')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Exits with 1 when the database is not at the version of this program.

Examples:
  dualstore db status
  dualstore db status --json --database-url postgresql://user@host/db`,
    )
    .action(async (flags: DatabaseFlags) => {
      const status = await onDatabase(flags, async (pool, { migrationStatus }) => migrationStatus(pool))
      const { current, latest, applied, pending } = status
      if (current !== latest) process.exitCode = EXIT_FOUND
      await print(
        {
          json: {
            current,
            latest,
            applied: applied.map(({ version, name, appliedAt }) => ({
              version,
              name,
              applied_at: appliedAt.toISOString(),
            })),
            pending,
          },
          text: [
            {
              head: ['VERSION', 'NAME', 'STATE'],
              rows: [
                ...applied.map(({ version, name, appliedAt }) => [
                  version,
                  name,
                  `applied ${appliedAt.toISOString()}`,
                ]),
                ...pending.map(({ version, name }) => [version, name, 'pending']),
              ],
            },
          ],
        },
        flags,
      )
      say(verdict(current, latest))
    })
  return addSettings(command, databaseSettings)
}

function verdict(current: number, latest: number): string {
  if (current === latest) return `the database is up to date at version ${current}`
  if (current > latest) {
    return `the database is at version ${current}, newer than this program, which knows up to ${latest}`
  }
  return `the database is at version ${current} of ${latest}; "dualstore db migrate" brings it there`
}

type Migrations = typeof import('../../server/db/migrate.js')
type Pool = Parameters<Migrations['migrate']>[0]

async function onDatabase<T>(
  flags: DatabaseFlags,
  work: (pool: Pool, migrations: Migrations) => Promise<T>,
): Promise<T> {
  const loaded = await loadSettings(flags)
  const [{ withDatabase }, migrations, { createCommandLog }] = await Promise.all([
    import('../../server/context.js'),
    import('../../server/db/migrate.js'),
    import('../log.js'),
  ])
  const log = await createCommandLog(loaded)
  return withDatabase(loaded.config, log, (pool) => work(pool, migrations))
}

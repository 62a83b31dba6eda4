import { setTimeout as delay } from 'node:timers/promises'
import { Command } from 'commander'
import { statusOf } from '../../../migrate/report.js'
import type { MigrationService } from '../../../server/services/migrations.js'
import { withLocalStores } from '../../local-context.js'
import { statusLine, statusText } from '../../migration-lines.js'
import { print, say } from '../../output.js'
import { addSettings } from '../../settings-options.js'
import { migrationSettings } from './settings.js'

const WATCH_MS = 1000

export function migrationStatusCommand(): Command {
  const command = new Command('status')
    .description('Tell how far the migration is, who runs it and what came to pass')
    .helpOption('-h, --help', 'print this help')
    .option('--watch', 'look every second until it is interrupted')
    .option('--json', 'print one JSON document; with --watch one line of JSON a second')
    .addHelpText(
      'after',
      `
Examples:
  dualstore migrate-from-dualstore-http status
  dualstore migrate-from-dualstore-http status --json | jq .lag`,
    )
    .action(async (flags: { watch?: boolean; json?: boolean }) => {
      await withLocalStores(flags, { migrate: 'embedded' }, async ({ migrations }, signal) => {
        if (flags.watch) return watch(migrations, flags, signal)
        const migration = await migrations.current()
        if (migration === undefined) say('no migration was begun yet')
        const status = migration === undefined ? null : statusOf(migration)
        await print({ json: status, text: status === null ? [] : statusText(status) }, flags)
      })
    })
  return addSettings(command, migrationSettings, 'Local stores')
}

async function watch(
  migrations: MigrationService,
  { json }: { json?: boolean },
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const migration = await migrations.current()
    const status = migration === undefined ? null : statusOf(migration)
    const line = status === null ? 'no migration was begun yet' : statusLine(status)
    process.stdout.write(`${json ? JSON.stringify(status) : line}\n`)
    await delay(WATCH_MS, undefined, { signal }).catch(() => {})
  }
}

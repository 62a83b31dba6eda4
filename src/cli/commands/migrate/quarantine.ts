import { Command } from 'commander'
import { DualstoreError } from '../../../server/errors.js'
import { withLocalStores } from '../../local-context.js'
import { counted, say } from '../../output.js'
import { addSettings } from '../../settings-options.js'
import { quarantineTarget, writeQuarantine } from './quarantine-file.js'
import { migrationSettings } from './settings.js'

export function migrationQuarantineCommand(): Command {
  const command = new Command('quarantine')
    .description('Print what the migration could not take, as NDJSON with the reason and the whole document')
    .helpOption('-h, --help', 'print this help')
    .option('--out <file>', 'write it to this file instead, wholly or not at all')
    .option('--yes', 'overwrite the file although something else is in it')
    .addHelpText(
      'after',
      `
Each line: {"collection", "source_id", "id", "reason", "document"}, the document as canonical extended JSON.

Examples:
  dualstore migrate-from-dualstore-http quarantine | jq -r .reason | sort | uniq -c
  dualstore migrate-from-dualstore-http quarantine --out quarantine.ndjson`,
    )
    .action(async (flags: { out?: string; yes?: boolean }) => {
      const target = flags.out === undefined ? undefined : await quarantineTarget(flags.out, flags.yes)
      await withLocalStores(flags, { migrate: 'embedded' }, async ({ migrations }) => {
        const migration = await migrations.current()
        if (migration === undefined) throw new DualstoreError('NOT_FOUND', 'no migration was begun yet')
        const lines = migrations.quarantine(migration.id)
        if (target !== undefined) return writeQuarantine(target, lines)
        let documents = 0
        for await (const chunk of lines) {
          process.stdout.write(chunk)
          documents += chunk.split('\n').length - 1
        }
        say(`${counted(documents, 'document')} in quarantine`)
      })
    })
  return addSettings(command, migrationSettings, 'Local stores')
}

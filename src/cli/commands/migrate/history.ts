import { Command } from 'commander'
import { withLocalStores } from '../../local-context.js'
import { print } from '../../output.js'
import { addSettings } from '../../settings-options.js'
import { migrationSettings } from './settings.js'

export function migrationHistoryCommand(): Command {
  const command = new Command('history')
    .description('Show the documents that gave way to a newer one of their id, the newest first')
    .helpOption('-h, --help', 'print this help')
    .argument('<collection>', 'the collection')
    .argument('<id>', 'id of the document')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Examples:
  dualstore migrate-from-dualstore-http history agent_tasks task_1
  dualstore migrate-from-dualstore-http history agent_tasks task_1 --json | jq '.[0].item'`,
    )
    .action(async (collection: string, id: string, flags: { json?: boolean }) => {
      await withLocalStores(flags, { migrate: 'embedded' }, async ({ migrations }) => {
        const entries = await migrations.history(collection, id)
        const json = entries.map(({ item, updated_at, at, ...entry }) => ({
          ...entry,
          item: JSON.parse(item),
          updated_at: new Date(updated_at).toISOString(),
          at: at.toISOString(),
        }))
        const rows = json.map((entry) => [entry.updated_at, entry.source_id, entry.digest, entry.item])
        await print({ json, text: [{ head: ['UPDATED', 'SOURCE ID', 'DIGEST', 'ITEM'], rows }] }, flags)
      })
    })
  return addSettings(command, migrationSettings, 'Local stores')
}

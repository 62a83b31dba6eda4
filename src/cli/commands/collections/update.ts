import { Command } from 'commander'
import { DualstoreError, invalid } from '../../../server/errors.js'
import type { ChangeOptions } from '../../../server/services/collections.js'
import type { Misfits } from '../../../server/services/misfits.js'
import type { Changed, CollectionsClient } from '../../client/contract.js'
import { addConnection, type ConnectionFlags, withClient } from '../../client/open.js'
import {
  addDefinition,
  checkedInput,
  type DefinitionFlags,
  definitionMembers,
  isBare,
} from '../../definition.js'
import { number, print, say, type Table } from '../../output.js'
import { EXIT_FOUND } from '../../report.js'
import { described } from './show.js'

type UpdateFlags = ConnectionFlags &
  DefinitionFlags & { allowMisfits?: boolean; dryRun?: boolean; clearIndexes?: boolean; json?: boolean }

export function updateCommand(): Command {
  const command = new Command('update')
    .description('Change the definition of a collection; tells which stored documents would not fit')
    .helpOption('-h, --help', 'print this help')
    .argument('<name>', 'the collection')
  addDefinition(command)
    .option('--clear-indexes', 'remove every index that is not given here')
    .option('--allow-misfits', 'change it although stored documents do not fit')
    .option('--dry-run', 'change nothing, only tell what would happen')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
What is not given stays as it is; --index and --text-index together replace all indexes, --from replaces everything.
Exits with 1 when stored documents do not fit, unless they are allowed not to.

Examples:
  dualstore collections update notes --schema notes.schema.json --dry-run
  dualstore collections update notes --index session_id,created_at --text-index
  dualstore collections update notes --from notes.json --allow-misfits`,
    )
    .action(async (name: string, flags: UpdateFlags) => {
      if (isBare(flags) && !flags.clearIndexes) {
        throw invalid(
          'update',
          'was given nothing to change; name at least one of --schema, --from, --label, …',
        )
      }
      const change = await changeOf(name, flags)
      const outcome = await withClient(flags, (client) => attempt(client, change))
      const { misfits } = outcome
      const changed = outcome.collection !== undefined && !flags.dryRun
      if (misfits.count > 0 && !(changed && flags.allowMisfits)) process.exitCode = EXIT_FOUND
      tell(name, misfits, { changed, dryRun: flags.dryRun === true })
      const text = misfits.count > 0 ? [misfitTable(misfits)] : []
      const shown =
        outcome.collection === undefined || misfits.count > 0 ? [] : described(outcome.collection).text
      await print({ json: { changed, ...outcome }, text: [...text, ...shown] }, flags)
    })
  return addConnection(command)
}

type Change = (client: CollectionsClient) => Promise<Changed>

async function changeOf(name: string, flags: UpdateFlags): Promise<Change> {
  const options: ChangeOptions = { allowMisfits: flags.allowMisfits, dryRun: flags.dryRun }
  const members = await definitionMembers(flags)
  if (flags.from !== undefined) {
    const input = await checkedInput({ name, ...members })
    return (client) => client.replace(name, input, options)
  }
  const { name: _, ...changed } = await checkedInput({
    schema: {},
    ...(flags.clearIndexes && { indexes: [] }),
    ...members,
    name,
  })
  // The schema above only completes the check; it is not a change.
  const { schema, ...rest } = changed
  return (client) => client.modify(name, members.schema === undefined ? rest : { ...rest, schema }, options)
}

/** A refusal because of misfits is an answer too: it has the same table. */
async function attempt(
  client: CollectionsClient,
  change: Change,
): Promise<Partial<Pick<Changed, 'collection'>> & { misfits: Misfits }> {
  try {
    return await change(client)
  } catch (error) {
    if (!(error instanceof DualstoreError) || error.code !== 'SCHEMA_MISFIT') throw error
    return { misfits: error.extra.misfits as Misfits }
  }
}

function tell(name: string, misfits: Misfits, what: { changed: boolean; dryRun: boolean }): void {
  const { count, checked } = misfits
  const verdict = what.changed
    ? `changed ${name}`
    : what.dryRun
      ? `dry run: ${name} is as it was`
      : `error: ${name} was not changed`
  const fit = count === 0 ? '' : `; ${number(count)} of ${number(checked)} stored documents do not fit`
  const fix = count > 0 && !what.changed ? ': change them first, or give --allow-misfits' : ''
  say(`${verdict}${fit}${fix}`)
}

function misfitTable({ sample }: Misfits): Table {
  return {
    head: ['DOCUMENT', 'FIELD', 'FAULT'],
    rows: sample.map(({ id, field, message }) => [id, field, message]),
  }
}

import { Command } from 'commander'
import { invalid } from '../../server/errors.js'
import { printFindings, runToEnd, sayResult } from '../audit-report.js'
import type { ConnectionFlags } from '../client/open.js'
import { addOperations, withOperations } from '../client/open-operations.js'
import { keepAndRemoveForeign, requireNewFile } from '../foreign-file.js'
import { counted, say } from '../output.js'
import { EXIT_FOUND } from '../report.js'
import { type AuditFlags, addAuditOptions, requestOf } from './verify.js'

type RepairFlags = ConnectionFlags & AuditFlags & { yes?: boolean; deleteForeign?: string; json?: boolean }

export function repairCommand(): Command {
  const command = new Command('repair').helpOption('-h, --help', 'print this help')
  addAuditOptions(command)
    .option('--yes', 'write; without it nothing is changed')
    .option(
      '--delete-foreign <file>',
      "with --yes, move other programs' documents out of the mirror's collections into this new NDJSON file",
    )
    .option('--json', 'print each document that was or would be repaired as one line of JSON')
    .addHelpText(
      'after',
      `
Only documents that differ are written. Exits with 1 when something differs and was not repaired.

Examples:
  dualstore repair
  dualstore repair --yes --collection agent_tasks
  dualstore repair --yes --delete-foreign foreign.ndjson --url http://127.0.0.1:3000`,
    )
    .action(async (flags: RepairFlags) => {
      const { yes = false, deleteForeign: file } = flags
      if (file !== undefined) {
        if (!yes) throw invalid('--delete-foreign', 'deletes documents; give --yes too')
        await requireNewFile(file)
      }
      await withOperations(
        flags,
        async (client, signal) => {
          const job = await runToEnd(client, 'repair', { ...requestOf(flags), apply: yes }, signal)
          await printFindings(client, job.id, flags.json === true)
          sayResult(job.result)
          if (!job.result.agree) {
            process.exitCode = EXIT_FOUND
            if (!yes) say('nothing was written; --yes repairs it')
          }
          if (file === undefined) return
          const names = flags.collection ?? (await client.collections())
          const { kept, removed } = await keepAndRemoveForeign(client, names, file, signal)
          say(`kept ${counted(kept, 'foreign document')} in ${file} and deleted ${removed} of them`)
          if (removed < kept) {
            process.exitCode = EXIT_FOUND
            say('those that were changed meanwhile were left alone')
          }
        },
        { inOrder: true },
      )
    })
  return addOperations(command)
}

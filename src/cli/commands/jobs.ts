import { Command } from 'commander'
import type { JobAnswer } from '../../server/schemas/jobs.js'
import { printFindings, sayResult } from '../audit-report.js'
import type { ConnectionFlags } from '../client/open.js'
import { addOperations, withOperations } from '../client/open-operations.js'
import { number, print } from '../output.js'

type Flags = ConnectionFlags & { json?: boolean }

export function jobsCommand(): Command {
  return new Command('jobs')
    .helpOption('-h, --help', 'print this help')
    .addHelpText('after', '\nExamples:\n  dualstore jobs list\n  dualstore jobs show job_1767225600000_abc')
    .addCommand(listCommand())
    .addCommand(showCommand())
    .addCommand(cancelCommand())
}

function listCommand(): Command {
  const command = new Command('list')
    .description('List jobs, the newest first')
    .helpOption('-h, --help', 'print this help')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExamples:\n  dualstore jobs list\n  dualstore jobs list --json | jq .[0].result')
    .action(async (flags: Flags) => {
      const jobs = await withOperations(flags, (client) => client.jobs({ limit: 100 }))
      const rows = jobs.map((job) => [
        job.id,
        job.kind,
        job.state,
        job.started_by,
        job.created_at,
        stateOf(job),
      ])
      await print(
        { json: jobs, text: [{ head: ['ID', 'KIND', 'STATE', 'BY', 'CREATED', 'RESULT'], rows }] },
        flags,
      )
    })
  return addOperations(command)
}

function showCommand(): Command {
  const command = new Command('show')
    .description('Show a job, with what it has found')
    .helpOption('-h, --help', 'print this help')
    .argument('<id>', 'the job')
    .option('--json', 'print one JSON document, without what it has found')
    .option('--differences', 'print what it has found, as NDJSON, and nothing else')
    .addHelpText(
      'after',
      `
Examples:
  dualstore jobs show job_1767225600000_abc
  dualstore jobs show job_1767225600000_abc --differences | jq .id`,
    )
    .action(async (id: string, flags: Flags & { differences?: boolean }) => {
      await withOperations(flags, async (client) => {
        const job = await client.job(id)
        if (flags.differences) return printFindings(client, id, true)
        await print(
          { json: job, text: [{ head: ['ID', 'KIND', 'STATE', 'RESULT'], rows: [rowOf(job)] }] },
          flags,
        )
        if (flags.json) return
        await printFindings(client, id, false)
        if (job.result !== null) sayResult(job.result)
      })
    })
  return addOperations(command)
}

function cancelCommand(): Command {
  const command = new Command('cancel')
    .description('End a job; what it has done until then stays')
    .helpOption('-h, --help', 'print this help')
    .argument('<id>', 'the job')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExamples:\n  dualstore jobs cancel job_1767225600000_abc')
    .action(async (id: string, flags: Flags) => {
      const job = await withOperations(flags, (client) => client.cancel(id))
      const text = job.state === 'cancelled' ? 'cancelled' : 'ends within moments'
      await print({ json: job, text: [text] }, flags)
    })
  return addOperations(command)
}

const rowOf = (job: JobAnswer) => [job.id, job.kind, job.state, stateOf(job)]

function stateOf({ result, progress, error }: JobAnswer): string {
  if (result !== null) return result.agree ? 'agree' : 'differences'
  if (error !== null) return error.message
  if (progress === null) return ''
  return `${number(progress.documents)} of about ${number(progress.estimate)}, ${number(progress.found)} found`
}

import { Command, InvalidArgumentError, Option } from 'commander'
import { printFindings, runToEnd, sayResult } from '../audit-report.js'
import type { ConnectionFlags } from '../client/open.js'
import { addOperations, withOperations } from '../client/open-operations.js'
import type { AuditRequest } from '../client/operations.js'
import { say } from '../output.js'
import { EXIT_FOUND } from '../report.js'

export interface AuditFlags extends Record<string, unknown> {
  collection?: string[]
  rate?: number
}

type VerifyFlags = ConnectionFlags & AuditFlags & { sample?: number; json?: boolean; wait: boolean }

export function verifyCommand(): Command {
  const command = new Command('verify').helpOption('-h, --help', 'print this help')
  addAuditOptions(command)
    .addOption(
      new Option('--sample <share>', 'look at this share of the key ranges only, such as 0.1').argParser(
        parseShare,
      ),
    )
    .option('--json', 'print each difference as one line of JSON')
    .option('--no-wait', 'start the job and print its id; "jobs show" tells how it went')
    .addHelpText(
      'after',
      `
Exits with 1 when anything is missing, extra, different, parked or unsettled. What was not checked is said on stderr.

Examples:
  dualstore verify
  dualstore verify --collection agent_tasks --json | jq .differences
  dualstore verify --url http://127.0.0.1:3000 --sample 0.05 --rate 2000`,
    )
    .action(async (flags: VerifyFlags) => {
      const request = { ...requestOf(flags), ...(flags.sample !== undefined && { sample: flags.sample }) }
      await withOperations(
        flags,
        async (client, signal) => {
          if (!flags.wait) {
            const { id } = await client.start('verify', request)
            process.stdout.write(`${id}\n`)
            return
          }
          const job = await runToEnd(client, 'verify', request, signal)
          await printFindings(client, job.id, flags.json === true)
          sayResult(job.result)
          if (job.result.agree) return
          process.exitCode = EXIT_FOUND
          say('"dualstore repair" tells what it would mend, and mends it with --yes')
        },
        { inOrder: true },
      )
    })
  return addOperations(command)
}

/** The flags that a verification and a repair share. */
export function addAuditOptions(command: Command): Command {
  return command
    .option(
      '--collection <name>',
      'only this collection; may be repeated',
      (name: string, before: string[] = []) => [...before, name],
    )
    .addOption(
      new Option('--rate <documents>', 'read so many documents a second at most').argParser((text) => {
        const rate = Number(text)
        if (rate >= 1 && Number.isFinite(rate)) return rate
        throw new InvalidArgumentError('It must be a number from 1 on.')
      }),
    )
}

export function requestOf({ collection, rate }: AuditFlags): AuditRequest {
  return { ...(collection && { collections: collection }), ...(rate !== undefined && { rate }) }
}

function parseShare(text: string): number {
  const share = Number(text)
  if (share > 0 && share <= 1) return share
  throw new InvalidArgumentError('It must be a share above 0 and up to 1, such as 0.1.')
}

import { setTimeout as delay } from 'node:timers/promises'
import { DualstoreError, type ErrorCode } from '../server/errors.js'
import type { JobAnswer, JobResult } from '../server/schemas/jobs.js'
import type { Finding } from '../server/services/audit/findings.js'
import type { AuditRequest, OperationsClient } from './client/operations.js'
import { Interrupted } from './interrupt.js'
import { splitLines } from './lines.js'
import { counted, number, printable, say } from './output.js'
import { showProgress } from './progress.js'
import { writeLine } from './write-line.js'

const POLL_MS = 300
/** Findings that people are shown; programs get all. */
const SHOWN = 50

/** Starts a job and waits for its end, with progress on stderr. Interrupting it cancels the job. */
export async function runToEnd(
  client: OperationsClient,
  kind: JobAnswer['kind'],
  request: AuditRequest,
  signal: AbortSignal,
): Promise<JobAnswer & { result: JobResult }> {
  let job = await client.start(kind, request)
  say(`${kind === 'verify' ? 'verifying' : 'repairing'} ${client.where}, job ${job.id}`)
  const progress = await showProgress({
    label: kind,
    documents: () => job.progress?.documents ?? 0,
    done: () => job.progress?.documents ?? 0,
    total: undefined,
  })
  let waiting = ''
  try {
    while (job.finished_at === null && !signal.aborted) {
      await delay(POLL_MS, undefined, { signal }).catch(() => {})
      job = await client.job(job.id)
      if (job.error !== null && job.error.message !== waiting && job.finished_at === null) {
        waiting = job.error.message
        say(`waiting: ${printable(waiting)}`)
      }
    }
  } finally {
    progress.stop()
  }
  if (job.finished_at === null) {
    await client.cancel(job.id).catch(() => {})
    throw new Interrupted(`interrupted; the job ${job.id} is cancelled`)
  }
  if (job.result !== null) return { ...job, result: job.result }
  throw new DualstoreError(
    (job.error?.code ?? 'CONFLICT') as ErrorCode,
    job.error?.message ?? `the job ${job.id} was ${job.state}`,
  )
}

/** Prints what a job has found: with `json` as NDJSON, otherwise the first of it for people. */
export async function printFindings(client: OperationsClient, id: string, json: boolean): Promise<void> {
  let shown = 0
  for await (const line of splitLines(client.findings(id))) {
    if (json) {
      // A reader that has seen enough closes the pipe.
      if (!(await writeLine(process.stdout, line))) return
    } else {
      if (shown++ === SHOWN) {
        say(`only the first ${SHOWN} are shown; --json prints all`)
        return
      }
      await writeLine(process.stdout, findingLine(JSON.parse(line) as Finding))
    }
  }
}

function findingLine({ kind, collection, id, outcome, reason, differences = [] }: Finding): string {
  const places = differences.map(({ path, ours, theirs }) => `${path}: ${ours ?? '–'} | ${theirs ?? '–'}`)
  const cells = [outcome ?? kind, ...(outcome ? [kind] : []), `${collection}/${id}`, reason ?? '', ...places]
  return cells.filter(Boolean).map(printable).join('\t')
}

/** Says in a few lines on stderr what a job came to. */
export function sayResult(result: JobResult): void {
  const { missing, extra, different, parked, unsettled, foreign, repaired, failed, listed } = result
  const parts = Object.entries({ missing, extra, different, parked, unsettled, repaired, failed })
    .filter(([, count]) => count > 0)
    .map(([name, count]) => `${number(count)} ${name}`)
  say(`compared ${counted(result.documents, 'document')}: ${parts.join(', ') || 'both stores agree'}`)
  if (foreign > 0) say(`${counted(foreign, 'document')} in the mirror are other programs', and no difference`)
  for (const what of result.not_checked) say(`not checked: ${printable(what)}`)
  const all = missing + extra + different + parked + unsettled
  if (listed < all) say(`only ${number(listed)} of ${number(all)} are listed`)
}

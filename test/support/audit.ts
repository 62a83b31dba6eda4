import type { Hints } from '../../src/server/changes/hints.js'
import type { Pool } from '../../src/server/db/pool.js'
import type { Mirror } from '../../src/server/mirror/contract.js'
import type { Finding } from '../../src/server/services/audit/findings.js'
import { createJobService, type JobService } from '../../src/server/services/jobs.js'
import { createParkedService, type ParkedService } from '../../src/server/services/parked.js'
import { localAccess } from '../../src/server/services/principal.js'
import { createRegistry } from '../../src/server/services/registry.js'
import { createRepair, type RepairOptions } from '../../src/server/services/repair.js'
import {
  type AuditResult,
  completeAudit,
  createVerification,
} from '../../src/server/services/verification.js'
import type { JobKind, StoredJob } from '../../src/server/store/jobs.js'
import { until } from './follower.js'
import { atEndOfFile } from './leaks.js'

export interface Auditor {
  jobs: JobService
  parked: ParkedService
  /** Runs a job to its end. */
  audit(kind: JobKind, options?: RepairOptions & { sample?: number }): Promise<Audited>
  /** Ends what runs the jobs. */
  stop(): Promise<void>
}

export interface Audited {
  job: StoredJob
  result: AuditResult
  findings: Finding[]
}

const silent = { debug() {}, info() {}, warn() {}, error() {} }
let instances = 0

/** Jobs on a mirror as a server runs them. Stopped after the file's last test, if not before. */
export function testAuditor(
  pool: Pool,
  mirror: Mirror,
  hints: Hints,
  options: { patienceMs?: number; intervalMs?: number; chunkSize?: number } = {},
): Auditor {
  const registry = createRegistry(pool)
  const parked = createParkedService({ pool, registry, mirror })
  const { patienceMs = 5000, chunkSize = 1000 } = options
  const audited = { pool, registry, mirror, patienceMs, chunkSize }
  const verification = createVerification(audited)
  const jobs = createJobService({
    pool,
    hints,
    log: silent,
    instance: `auditor-${++instances}`,
    pollMs: 20,
    work: { verify: verification.work, repair: createRepair({ ...audited, parked }).work },
    complete: (given) => completeAudit(audited, given, undefined),
    mayRun: async () => true,
    schedule:
      options.intervalMs === undefined
        ? undefined
        : { kind: 'verify', intervalMs: options.intervalMs, options: {} },
  })
  const runners = jobs.runners()
  for (const runner of runners) runner.run()
  const stop = async () => {
    await Promise.all(runners.map((runner) => runner.stop()))
  }
  atEndOfFile(stop)
  return {
    jobs,
    parked,
    stop,
    async audit(kind, given = {}) {
      const { id } = await jobs.start(kind, given, localAccess)
      return finished(jobs, id)
    },
  }
}

/** Waits for a job's end; fails with its error when it did not get done. */
export async function finished(jobs: JobService, id: string): Promise<Audited> {
  let job = await jobs.get(id)
  await until(async () => {
    job = await jobs.get(id)
    return job.finished_at !== null
  }, 60_000)
  if (job.state !== 'done') throw new Error(`the job is ${job.state}: ${JSON.stringify(job.error)}`)
  let text = ''
  for await (const lines of await jobs.findings(id)) text += lines
  const findings = text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Finding)
  return { job, result: job.result as AuditResult, findings }
}

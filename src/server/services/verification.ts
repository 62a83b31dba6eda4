import type { Pool } from '../db/pool.js'
import { DualstoreError } from '../errors.js'
import type { Mirror } from '../mirror/contract.js'
import { listJobs } from '../store/jobs.js'
import { type Counts, countedKinds, sumOf } from './audit/findings.js'
import { withLeanHeap } from './audit/lean-heap.js'
import { createSettle } from './audit/settle.js'
import { type AuditOptions, type AuditProgress, type WalkOptions, walk } from './audit/walk.js'
import type { JobRun } from './jobs/run.js'
import type { Registry } from './registry.js'

/** What a verification or a repair ends with. */
export interface AuditResult extends Counts {
  /** Nothing is missing, extra, different, parked or unsettled. Foreign documents do not count. */
  agree: boolean
  collections: Record<string, Counts>
  /** What the result says nothing about, in words. */
  not_checked: string[]
  /** How many findings are kept, of all that are counted. */
  listed: number
}

export interface AuditServiceOptions {
  pool: Pool
  registry: Registry
  mirror: Mirror | undefined
  /** How long a document may be on its way to the mirror before it counts as unsettled. */
  patienceMs: number
  /** Documents that are compared at a time, 1000 by default. */
  chunkSize?: number
}

/** What a job is to start with: collections that exist, a mirror to compare with, and a rate when one is set. */
export async function completeAudit(
  { registry, mirror }: Pick<AuditServiceOptions, 'registry' | 'mirror'>,
  given: AuditOptions,
  rate: number | undefined,
): Promise<AuditOptions> {
  if (mirror === undefined) throw noMirror()
  const { collections } = given
  for (const name of collections ?? []) await registry.get(name)
  return { rate, ...given, ...(collections && { collections: [...new Set(collections)].sort() }) }
}

function noMirror(): DualstoreError {
  return new DualstoreError('CONFLICT', 'there is no mirror to compare with: DUAL_WRITE_ENABLED is false')
}

export type Verification = ReturnType<typeof createVerification>

/** Proves that both stores hold the same, or names every document that differs. Changes neither. */
export function createVerification(options: AuditServiceOptions) {
  return {
    work: (run: JobRun<AuditOptions, AuditProgress>): Promise<AuditResult> =>
      audit(options, run, async (_definition, findings) => findings),

    /** The newest finished verification; undefined before the first. */
    async last(): Promise<{ id: string; finishedAt: Date; result: AuditResult } | undefined> {
      const [job] = await listJobs(options.pool, { kind: 'verify', state: 'done', limit: 1 })
      if (job?.finished_at == null) return undefined
      return { id: job.id, finishedAt: job.finished_at, result: job.result as AuditResult }
    },
  }
}

/** Walks through everything that the job asks for. @throws MIRROR_UNAVAILABLE */
export async function audit(
  { pool, registry, mirror, patienceMs, chunkSize }: AuditServiceOptions,
  run: JobRun<AuditOptions, AuditProgress>,
  act: WalkOptions['act'],
): Promise<AuditResult> {
  if (mirror === undefined) throw noMirror()
  const settle = createSettle({ pool, mirror, patienceMs })
  const { counts, not_checked, listed } = await withLeanHeap(() =>
    walk({ pool, registry, mirror, settle, act, chunkSize }, run),
  )
  const sum = sumOf(Object.values(counts))
  if (sum.unsettled > 0) not_checked.push(`${sum.unsettled} documents that were on their way to the mirror`)
  if (sum.parked > 0) not_checked.push(`${sum.parked} parked documents: retry or skip them`)
  const found = countedKinds.reduce((all, kind) => all + (kind === 'foreign' ? 0 : sum[kind]), 0)
  return { agree: found === sum.repaired, ...sum, collections: counts, not_checked, listed }
}

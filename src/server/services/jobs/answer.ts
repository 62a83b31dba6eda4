import type { JobAnswer } from '../../schemas/jobs.js'
import type { StoredJob } from '../../store/jobs.js'
import { sumOf } from '../audit/findings.js'
import type { AuditProgress } from '../audit/walk.js'

/** A job as it is told to clients. */
export function jobAnswer(job: StoredJob): JobAnswer {
  return {
    id: job.id,
    kind: job.kind,
    state: job.state,
    options: job.options,
    progress: job.progress && progressOf(job.progress as AuditProgress),
    result: job.result as JobAnswer['result'],
    error: job.error,
    cancel_requested: job.cancel_requested,
    started_by: job.started_by,
    created_at: job.created_at.toISOString(),
    started_at: job.started_at?.toISOString() ?? null,
    finished_at: job.finished_at?.toISOString() ?? null,
  }
}

function progressOf({ collection, estimate, counts }: AuditProgress): NonNullable<JobAnswer['progress']> {
  const { documents, skipped, missing, extra, different, parked, unsettled } = sumOf(Object.values(counts))
  const found = missing + extra + different + parked + unsettled
  return { collection, documents: documents + skipped, estimate, found }
}

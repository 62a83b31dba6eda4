import { type Queryable, query } from '../db/pool.js'

export type JobKind = 'verify' | 'repair'
export type JobState = 'queued' | 'running' | 'done' | 'failed' | 'cancelled'

/** A job as it is stored; what stands in the objects is for the service of its kind to say. */
export interface StoredJob {
  id: string
  kind: JobKind
  state: JobState
  options: object
  progress: object | null
  result: object | null
  error: { code: string; message: string } | null
  started_by: string
  cancel_requested: boolean
  created_at: Date
  started_at: Date | null
  finished_at: Date | null
}

/** One thing a job found, under the collection and id it is about. */
export interface StoredFinding {
  collection: string
  id: string
  finding: object
}

const COLUMNS =
  'id, kind, state, options, progress, result, error, started_by, cancel_requested, created_at, started_at, finished_at'

export async function insertJob(
  on: Queryable,
  job: { id: string; kind: JobKind; options: object; startedBy: string },
): Promise<StoredJob> {
  const rows = await query<StoredJob>(
    on,
    `INSERT INTO dualstore.jobs (id, kind, options, started_by) VALUES ($1, $2, $3, $4) RETURNING ${COLUMNS}`,
    [job.id, job.kind, JSON.stringify(job.options), job.startedBy],
  )
  return rows[0] as StoredJob
}

export async function readJob(on: Queryable, id: string): Promise<StoredJob | undefined> {
  return (await query<StoredJob>(on, `SELECT ${COLUMNS} FROM dualstore.jobs WHERE id = $1`, [id]))[0]
}

/** The newest first. */
export async function listJobs(
  on: Queryable,
  filter: { kind?: JobKind | undefined; state?: JobState | undefined; limit: number },
): Promise<StoredJob[]> {
  return query<StoredJob>(
    on,
    `SELECT ${COLUMNS} FROM dualstore.jobs
     WHERE ($1::text IS NULL OR kind = $1) AND ($2::text IS NULL OR state = $2)
     ORDER BY created_at DESC, id DESC LIMIT $3`,
    [filter.kind ?? null, filter.state ?? null, filter.limit],
  )
}

/** Number of jobs of a kind that are not finished. */
export async function countUnfinished(on: Queryable, kind: JobKind): Promise<number> {
  const rows = await query<{ count: number }>(
    on,
    `SELECT count(*) AS count FROM dualstore.jobs WHERE kind = $1 AND state IN ('queued', 'running')`,
    [kind],
  )
  return rows[0]?.count ?? 0
}

/** Gives the oldest unfinished job of a kind to a runner, whoever ran it before; undefined when there is none. */
export async function claimJob(on: Queryable, kind: JobKind, runner: string): Promise<StoredJob | undefined> {
  const rows = await query<StoredJob>(
    on,
    `UPDATE dualstore.jobs SET state = 'running', runner = $2, started_at = coalesce(started_at, now())
     WHERE id = (SELECT id FROM dualstore.jobs WHERE kind = $1 AND state IN ('queued', 'running')
                 ORDER BY created_at, id LIMIT 1 FOR UPDATE)
     RETURNING ${COLUMNS}`,
    [kind, runner],
  )
  return rows[0]
}

/**
 * Stores how far a job has come, or what keeps it from getting on.
 * @returns whether it is to go on; undefined when another runner has it now.
 */
export async function saveProgress(
  on: Queryable,
  id: string,
  runner: string,
  progress: object | null,
  error: { code: string; message: string } | null = null,
): Promise<boolean | undefined> {
  const rows = await query<{ cancel_requested: boolean }>(
    on,
    `UPDATE dualstore.jobs SET progress = coalesce($3, progress), error = $4
     WHERE id = $1 AND runner = $2 AND state = 'running' RETURNING cancel_requested`,
    [id, runner, progress && JSON.stringify(progress), error && JSON.stringify(error)],
  )
  return rows[0] && !rows[0].cancel_requested
}

/** Ends a job, unless another runner has it now. */
export async function finishJob(
  on: Queryable,
  id: string,
  runner: string,
  end: {
    state: 'done' | 'failed' | 'cancelled'
    result: object | null
    error: { code: string; message: string } | null
  },
): Promise<void> {
  await query(
    on,
    `UPDATE dualstore.jobs SET state = $3, result = $4, error = $5, finished_at = now(), runner = NULL
     WHERE id = $1 AND runner = $2 AND state = 'running'`,
    [id, runner, end.state, end.result && JSON.stringify(end.result), end.error && JSON.stringify(end.error)],
  )
}

/** Ends a job that waits at once; one that runs is asked to end. Undefined when it is finished or there is none. */
export async function cancelJob(on: Queryable, id: string): Promise<StoredJob | undefined> {
  const rows = await query<StoredJob>(
    on,
    `UPDATE dualstore.jobs SET
       state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END,
       finished_at = CASE state WHEN 'queued' THEN now() END,
       cancel_requested = true
     WHERE id = $1 AND state IN ('queued', 'running') RETURNING ${COLUMNS}`,
    [id],
  )
  return rows[0]
}

/** Forgets all but the newest finished jobs of a kind, with their findings. */
export async function forgetJobs(on: Queryable, kind: JobKind, keep: number): Promise<void> {
  await query(
    on,
    `DELETE FROM dualstore.jobs WHERE id IN (
       SELECT id FROM dualstore.jobs WHERE kind = $1 AND state NOT IN ('queued', 'running')
       ORDER BY created_at DESC, id DESC OFFSET $2
     )`,
    [kind, keep],
  )
}

/** Milliseconds since somebody last started a job of a kind; undefined when nobody has. PostgreSQL's clock. */
export async function ageOfLast(
  on: Queryable,
  kind: JobKind,
  startedBy: string,
): Promise<number | undefined> {
  const rows = await query<{ age: number }>(
    on,
    `SELECT (extract(epoch FROM clock_timestamp() - created_at) * 1000)::bigint AS age FROM dualstore.jobs
     WHERE kind = $1 AND started_by = $2 ORDER BY created_at DESC LIMIT 1`,
    [kind, startedBy],
  )
  return rows[0]?.age
}

/** Keeps findings; one on the same document takes the place of the one before. */
export async function insertFindings(
  on: Queryable,
  job: string,
  findings: readonly StoredFinding[],
): Promise<void> {
  if (findings.length === 0) return
  await query(
    on,
    `INSERT INTO dualstore.findings (job, collection, id, finding)
     SELECT $1, * FROM unnest($2::text[], $3::text[], $4::jsonb[])
     ON CONFLICT (job, collection, id) DO UPDATE SET finding = EXCLUDED.finding`,
    [
      job,
      findings.map((row) => row.collection),
      findings.map((row) => row.id),
      findings.map((row) => JSON.stringify(row.finding)),
    ],
  )
}

/** A job's findings behind a place, by collection and id. */
export async function readFindings(
  on: Queryable,
  job: string,
  after: { collection: string; id: string },
  limit: number,
): Promise<StoredFinding[]> {
  return query<StoredFinding>(
    on,
    `SELECT collection, id, finding FROM dualstore.findings
     WHERE job = $1 AND (collection, id) > ($2, $3) ORDER BY collection, id LIMIT $4`,
    [job, after.collection, after.id, limit],
  )
}

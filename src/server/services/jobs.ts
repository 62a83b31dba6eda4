import { type Hints, JOBS_CHANNEL } from '../changes/hints.js'
import type { Pool } from '../db/pool.js'
import { DualstoreError } from '../errors.js'
import type { Follower, Log } from '../followers/contract.js'
import { createLeased } from '../followers/leased.js'
import { createWaits } from '../followers/waits.js'
import {
  ageOfLast,
  cancelJob,
  claimJob,
  countUnfinished,
  forgetJobs,
  insertJob,
  type JobKind,
  type JobState,
  listJobs,
  readFindings,
  readJob,
  type StoredJob,
} from '../store/jobs.js'
import { newId } from './ids.js'
import { type JobWork, runJob } from './jobs/run.js'
import type { Access } from './principal.js'

/** A job that starts by itself. */
export interface Schedule {
  kind: JobKind
  /** Milliseconds from start to start, give or take a tenth. */
  intervalMs: number
  options: object
}

export interface JobServiceOptions {
  pool: Pool
  hints: Hints
  log: Log
  /** Names this process among those that could run jobs. */
  instance: string
  work: Readonly<Record<JobKind, JobWork>>
  /** Checks what a job is asked for, and completes it. @throws whatever is wrong with it */
  complete(given: object): Promise<object>
  pollMs: number
  /** Whether this instance may run jobs now: whoever cannot reach the mirror must not. */
  mayRun(): Promise<boolean>
  schedule?: Schedule | undefined
  now?: () => number
}

export type JobService = ReturnType<typeof createJobService>

/** Whose jobs those are that a schedule starts. */
export const SCHEDULED = 'schedule'
const MAX_UNFINISHED = 20
const KEPT = 20
const PAGE = 500
/** How often jobs are looked for when no notification comes. */
const SLOWEST_POLL_MS = 1000

/** Long work that is asked for once and outlives the process that does it. */
export function createJobService(options: JobServiceOptions) {
  const { pool, hints, log, now = Date.now } = options

  const start = async (kind: JobKind, given: object, startedBy: string): Promise<StoredJob> => {
    if ((await countUnfinished(pool, kind)) >= MAX_UNFINISHED) {
      throw new DualstoreError('CONFLICT', `${MAX_UNFINISHED} jobs of this kind are waiting already`)
    }
    const complete = await options.complete(given)
    const job = await insertJob(pool, { id: newId('job', now()), kind, options: complete, startedBy })
    hints.tell(JOBS_CHANNEL)
    return job
  }
  const get = async (id: string): Promise<StoredJob> => {
    const job = await readJob(pool, id)
    if (job === undefined) throw new DualstoreError('NOT_FOUND', `there is no job "${id}"`)
    return job
  }

  return {
    /** Asks for a job; one instance at a time runs those of a kind, the oldest first. @throws CONFLICT */
    start: (kind: JobKind, given: object, access: Access) => start(kind, given, access.principal.id),

    /** @throws NOT_FOUND */
    get,

    /** The newest first. */
    list: (filter: { kind?: JobKind | undefined; state?: JobState | undefined; limit: number }) =>
      listJobs(pool, filter),

    /** Ends a job that waits at once, one that runs within moments; what it did until then stays. @throws CONFLICT */
    async cancel(id: string): Promise<StoredJob> {
      const job = await cancelJob(pool, id)
      if (job !== undefined) return job
      const { state } = await get(id)
      throw new DualstoreError('CONFLICT', `this job is ${state} already`)
    },

    /** What a job has found so far, as NDJSON by collection and id, in chunks of whole lines. @throws NOT_FOUND */
    async findings(id: string): Promise<AsyncGenerator<string>> {
      await get(id)
      return lines(id)
    },

    /** What runs jobs, one follower for each kind. */
    runners: (): Follower[] => (Object.keys(options.work) as JobKind[]).map(createRunner),
  }

  async function* lines(id: string): AsyncGenerator<string> {
    for (let after = { collection: '', id: '' }; ; ) {
      const page = await readFindings(pool, id, after, PAGE)
      const last = page.at(-1)
      if (last === undefined) return
      yield page
        .map((row) => `${JSON.stringify({ collection: row.collection, id: row.id, ...row.finding })}\n`)
        .join('')
      after = last
    }
  }

  function createRunner(kind: JobKind): Follower {
    const pollMs = Math.max(SLOWEST_POLL_MS, options.pollMs)
    const schedule = options.schedule?.kind === kind ? options.schedule : undefined
    let runs = 0
    return createLeased({
      id: `jobs-${kind}`,
      instance: options.instance,
      pool,
      log,
      pollMs,
      mayLead: options.mayRun,
      async work(signal) {
        const { sleep, wake } = createWaits(signal)
        const unsubscribe = hints.on(JOBS_CHANNEL, wake)
        const due = schedule && createDue(pool, schedule)
        try {
          while (!signal.aborted && (await options.mayRun())) {
            if (await due?.()) await start(kind, schedule?.options ?? {}, SCHEDULED)
            const runner = `${options.instance}-${++runs}`
            const job = await claimJob(pool, kind, runner)
            if (job === undefined) {
              await sleep(pollMs)
              continue
            }
            log.info({ job: job.id, kind, resumed: job.progress !== null }, 'a job begins')
            await runJob(job, { pool, log, work: options.work[kind], runner, signal })
            await forgetJobs(pool, kind, KEPT)
          }
        } finally {
          unsubscribe()
        }
      },
    })
  }
}

/** Tells when a schedule's next job is due: not all of many servers' at the same moment, and none while one is left. */
function createDue(pool: Pool, { kind, intervalMs }: Schedule): () => Promise<boolean> {
  const jitter = () => intervalMs * (Math.random() - 0.5) * 0.2
  const began = Date.now() - intervalMs * (0.9 + 0.1 * Math.random())
  let wanted = intervalMs + jitter()
  return async () => {
    const age = (await ageOfLast(pool, kind, SCHEDULED)) ?? Date.now() - began
    if (age < wanted || (await countUnfinished(pool, kind)) > 0) return false
    wanted = intervalMs + jitter()
    return true
  }
}

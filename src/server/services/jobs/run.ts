import { setTimeout as delay } from 'node:timers/promises'
import type { Pool } from '../../db/pool.js'
import { transaction } from '../../db/transaction.js'
import { DualstoreError } from '../../errors.js'
import type { Log } from '../../followers/contract.js'
import { finishJob, insertFindings, readJob, type StoredJob, saveProgress } from '../../store/jobs.js'
import type { Finding } from '../audit/findings.js'

/** A job as the work of its kind sees it. */
export interface JobRun<Options = object, Progress = object> {
  id: string
  options: Options
  /** As it was last stored, by whomever; undefined at the beginning. */
  progress: Progress | undefined
  /** Aborted when the job is cancelled, or is to be left to another instance. */
  signal: AbortSignal
  /** Stores how far it has come and what it has found since the last time, both or neither. */
  save(progress: Progress, findings: readonly Finding[]): Promise<void>
}

/** The work of a kind of job: called again from the stored progress after whatever interrupted it. */
// biome-ignore lint/suspicious/noExplicitAny: each kind knows its own options and progress
export type JobWork = (run: JobRun<any, any>) => Promise<object>

export interface RunJobOptions {
  pool: Pool
  log: Log
  work: JobWork
  /** Names this run, and so fences those before it. */
  runner: string
  signal: AbortSignal
}

const WATCH_MS = 500
const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 10_000
/** How long a store may be away before the job fails. */
const OUTAGE_MS = 600_000

/** Thrown when another run has the job now. */
class LostJob extends Error {}

/**
 * Runs a claimed job to its end. An outage of either store is waited for; a shutdown leaves the job as it was last
 * stored, for whoever claims it next.
 */
export async function runJob(job: StoredJob, options: RunJobOptions): Promise<void> {
  const { pool, log, work, runner } = options
  const cancelled = new AbortController()
  const signal = AbortSignal.any([options.signal, cancelled.signal])
  const watching = watch(pool, job.id, cancelled)
  let lastSaved = Date.now()
  let pauseMs = FIRST_PAUSE_MS

  const save: JobRun['save'] = async (progress, findings) => {
    signal.throwIfAborted()
    await transaction(pool, async (tx) => {
      // First of all the row of the job, which fences a run that is over.
      if ((await saveProgress(tx, job.id, runner, progress)) === undefined) throw new LostJob()
      const rows = findings.map(({ collection, id, ...finding }) => ({ collection, id, finding }))
      await insertFindings(tx, job.id, rows)
    })
    lastSaved = Date.now()
    pauseMs = FIRST_PAUSE_MS
  }

  /** What the job ends with; undefined when it is to be tried again. */
  const attempt = async (): Promise<Parameters<typeof finishJob>[3] | undefined> => {
    try {
      const progress = (await readJob(pool, job.id))?.progress ?? undefined
      const run: JobRun = { id: job.id, options: job.options, progress, signal, save }
      return { state: 'done', result: await work(run), error: null }
    } catch (error) {
      if (signal.aborted || error instanceof LostJob) throw error
      const known = error instanceof DualstoreError
      const told = known
        ? { code: error.code, message: error.message }
        : { code: 'INTERNAL', message: 'an unexpected error; the log of the server tells more' }
      if (known && error.retryable && Date.now() - lastSaved < OUTAGE_MS) {
        log.warn({ job: job.id, err: error }, 'a job cannot get on; will try again')
        await saveProgress(pool, job.id, runner, null, told).catch(() => {})
        await delay(pauseMs, undefined, { signal })
        pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2)
        return undefined
      }
      log.error({ job: job.id, err: error }, 'a job has failed')
      return { state: 'failed', result: null, error: told }
    }
  }

  try {
    let end: Awaited<ReturnType<typeof attempt>>
    do end = await attempt()
    while (end === undefined)
    await finishJob(pool, job.id, runner, end)
  } catch (error) {
    if (cancelled.signal.aborted && !options.signal.aborted)
      await finishJob(pool, job.id, runner, { state: 'cancelled', result: null, error: null })
    else if (!options.signal.aborted && !(error instanceof LostJob)) throw error
  } finally {
    await watching.stop()
  }
}

/** Looks now and then whether somebody has asked for the job to end. */
function watch(pool: Pool, id: string, cancelled: AbortController) {
  let looking: Promise<void> | undefined
  const look = async () => {
    const job = await readJob(pool, id).catch(() => undefined)
    if (job?.cancel_requested) cancelled.abort()
    looking = undefined
  }
  looking = look()
  const timer = setInterval(() => {
    looking ??= look()
  }, WATCH_MS)
  return {
    async stop() {
      clearInterval(timer)
      await looking
    },
  }
}

import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { DualstoreError } from '../server/errors.js'
import { createPace } from '../server/services/audit/pace.js'
import {
  BEAT_MS,
  type Lag,
  type Migration,
  type MigrationService,
  type MigrationState,
  type StoredProgress,
} from '../server/services/migrations.js'
import type { Access } from '../server/services/principal.js'
import { backfill, type Intaking } from './backfill.js'
import { createLagGauge, follow, type LagGauge } from './follow.js'
import type { Source, SourceCollection } from './sources/contract.js'

export interface RunOptions {
  source: Source
  migrations: MigrationService
  /** Who asks for it. */
  access: Access
  /** Collections to take over; undefined: all that are there. */
  collections?: readonly string[] | undefined
  /** Go on taking what is written to the source, until the signal comes. */
  follow?: boolean
  /** The source is the mirror's own place: its documents are replaced there at the cut-over. */
  adopt?: boolean
  /** Documents a second at most. */
  rate?: number | undefined
  /** Milliseconds between two looks at a source without change stream. */
  pollMs?: number
  /** Interrupts the run, which can be gone on with. */
  signal: AbortSignal
  /** Told when something has come to pass. */
  onProgress?: (progress: RunProgress) => void
  /** Told of an outage that is waited out. */
  onOutage?: (error: DualstoreError) => void
}

/** How far a run is. */
export interface RunProgress {
  migration: string
  state: MigrationState
  /** In the collections that are taken over, as the source tells. */
  documents: number
  /** Of them in this pass, whoever took them in; documents that were written meanwhile are among them. */
  done: number
  /** Documents that this run has taken in. */
  taken: number
  lag: Lag | null
}

export interface RunEnd {
  migration: Migration
  taken: number
  seconds: number
  /** The signal came; the same command goes on. */
  interrupted: boolean
}

const POLL_MS = 1000
const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 10_000
/** How long a store or the source may be away before a run fails. */
const OUTAGE_MS = 600_000

/**
 * Takes over what a source holds: goes on with what was interrupted, and reads everything once more when all was read
 * before. Can be killed at any moment.
 * @throws CONFLICT when another run is alive, another source's migration is unfinished, or this one was cut over and is not to be
 * followed;
 * NOT_FOUND when the source holds none of the collections; SOURCE_UNAVAILABLE, STORE_UNAVAILABLE after ten minutes
 */
export async function runMigration(options: RunOptions): Promise<RunEnd> {
  const { source, migrations, signal } = options
  const present = await presentIn(source, await askedFor(migrations, options.collections))
  const { kind, name, identity } = source
  const { id, state } = await migrations.begin(
    options.access,
    { kind, name, identity },
    {
      collections: present.map(({ collection }) => collection),
      follow: options.follow ?? false,
      adopt: options.adopt ?? false,
    },
  )
  const run = createRun(options, { id, state, present })
  let runner: string | undefined
  try {
    for (let pauseMs = FIRST_PAUSE_MS; ; ) {
      const instead: string | undefined = runner
      const before = run.progress.taken
      try {
        // Another name for each attempt: what an attempt before has under way is waited for, or comes to nothing.
        const next = `${hostname()}-${process.pid}-${randomBytes(4).toString('hex')}`
        await migrations.claim({ id, runner: next }, instead)
        runner = next
        await run.attempt(runner, instead === undefined)
        break
      } catch (error) {
        if (run.progress.taken > before) pauseMs = FIRST_PAUSE_MS
        if (!(error instanceof DualstoreError) || !error.retryable || signal.aborted) throw error
        if (runner === undefined || run.idleMs() > OUTAGE_MS) throw error
        options.onOutage?.(error)
        await delay(pauseMs, undefined, { signal }).catch(() => {})
        pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2)
      }
    }
    return await run.end()
  } catch (error) {
    if (signal.aborted) return await run.end()
    const known = error instanceof DualstoreError
    const told = known
      ? { code: error.code, message: error.message }
      : { code: 'INTERNAL', message: 'an unexpected error' }
    if (runner !== undefined) await migrations.release({ id, runner }, told).catch(() => {})
    runner = undefined
    throw error
  } finally {
    if (runner !== undefined) await migrations.release({ id, runner }).catch(() => {})
  }
}

/** One run, over all of its attempts. */
function createRun(
  options: RunOptions,
  { id, state, present }: { id: string; state: MigrationState; present: readonly SourceCollection[] },
) {
  const { source, migrations, access, onProgress = () => {} } = options
  const began = performance.now()
  const gauge = createLagGauge()
  const asked = new Set(present.map(({ collection }) => collection))
  const documents = present.reduce((sum, one) => sum + one.documents, 0)
  const progress: RunProgress = { migration: id, state, documents, done: 0, taken: 0, lag: null }
  let lastTaken = Date.now()

  const moveTo = async (to: MigrationState, note: string): Promise<void> => {
    await migrations.moveTo(id, to, access.principal.id, note)
    progress.state = to
    onProgress(progress)
  }
  const stored = async (): Promise<StoredProgress[]> =>
    (await migrations.get(id)).collections.filter(({ collection }) => asked.has(collection))

  /** Whether it was ended from outside, which may be met before the next heartbeat tells it. */
  const isOver = async (): Promise<boolean> =>
    migrations.get(id).then(
      ({ state: now, rolling_back }) => migrations.isOver(now) || rolling_back,
      () => false,
    )

  return {
    progress,
    /** Milliseconds since something was taken in. */
    idleMs: () => Date.now() - lastTaken,

    /** @param first Nothing was done in this run before: a pass that is through is followed by the next. */
    async attempt(runner: string, first: boolean): Promise<void> {
      const keeper = keepAlive(migrations, { id, runner }, gauge, options.signal)
      const intaking: Intaking = {
        source,
        migrations,
        id,
        runner,
        signal: keeper.signal,
        pace: createPace(options.rate, keeper.signal),
        onTaken(_collection, count) {
          lastTaken = Date.now()
          progress.taken += count
          progress.done += count
          progress.lag = gauge.lag()
          onProgress(progress)
        },
      }
      try {
        if (first) {
          // One that was verified without following has no place from which following would miss nothing.
          const marked = (await stored()).every((one) => one.follow_checkpoint !== null)
          const follows = marked && ['following', 'verified', 'cut_over'].includes(state)
          const again = !(options.follow && follows)
          if (again && state === 'verified') {
            await moveTo(follows ? 'following' : 'backfilled', 'everything is read once more')
          }
          await migrations.beginPass(id, present, { again })
        }
        // From before the first document is read, so that nothing is missed.
        if (options.follow) await mark(migrations, source, id, await stored())
        progress.done = (await stored()).reduce((sum, one) => sum + one.read, 0)
        onProgress(progress)
        for (const one of await stored()) if (!one.done) await backfill(intaking, one)
        const all = await migrations.get(id)
        progress.state = all.state
        if (all.state === 'planned' && all.collections.every(({ done }) => done)) {
          await moveTo('backfilled', 'everything was read')
        }
        if (!options.follow) return
        if (progress.state === 'backfilled')
          await moveTo('following', 'what is written to the source is taken in')
        await follow(intaking, await stored(), { gauge, pollMs: options.pollMs ?? POLL_MS })
      } catch (error) {
        // What ends a run from outside is told by its own reason, not by whatever broke off because of it.
        if (keeper.isOver() || (await isOver())) return
        throw keeper.reason() ?? error
      } finally {
        await keeper.stop()
      }
    },

    async end(): Promise<RunEnd> {
      const { collections, ...migration } = await migrations.get(id)
      return {
        migration: { ...migration, collections: collections.filter((one) => asked.has(one.collection)) },
        taken: progress.taken,
        seconds: (performance.now() - began) / 1000,
        interrupted: options.signal.aborted,
      }
    },
  }
}

/** Names of collections, each of which is there. @throws COLLECTION_NOT_FOUND */
export async function askedFor(
  migrations: MigrationService,
  collections: readonly string[] | undefined,
): Promise<readonly string[]> {
  for (const name of collections ?? []) await migrations.definition(name)
  return collections ?? migrations.collections()
}

/** @throws NOT_FOUND when the source holds none of them */
export async function presentIn(source: Source, names: readonly string[]): Promise<SourceCollection[]> {
  const present = await source.collections(names)
  if (present.length > 0) return present
  throw new DualstoreError('NOT_FOUND', `${source.name} holds none of the collections ${names.join(', ')}`)
}

async function mark(
  migrations: MigrationService,
  source: Source,
  id: string,
  progress: readonly StoredProgress[],
): Promise<void> {
  for (const { collection, follow_checkpoint } of progress) {
    if (follow_checkpoint === null) await migrations.mark(id, collection, await source.mark(collection))
  }
}

/** Tells again and again that a runner is alive, and ends it when another one has the migration or it is over. */
function keepAlive(
  migrations: MigrationService,
  of: { id: string; runner: string },
  gauge: LagGauge,
  interrupted: AbortSignal,
) {
  const ended = new AbortController()
  let reason: DualstoreError | undefined
  let over = false
  let beating: Promise<void> | undefined
  let question = { number: 0, heardAt: 0 }
  /** The question, when everything was taken in that had been written when it was heard of. */
  const answered = () => ((gauge.upTo() ?? 0) > question.heardAt ? question.number : 0)
  const beat = async () => {
    try {
      const told = await migrations.beat(of, { lag: gauge.lag(), answered: answered() })
      if (told === undefined) {
        reason = new DualstoreError('CONFLICT', 'another process has taken this migration over')
        ended.abort()
      } else if (migrations.isOver(told.state) || told.rolling_back) {
        over = true
        ended.abort()
      } else if (told.question > question.number) {
        question = { number: told.question, heardAt: performance.now() }
      }
    } catch {
      // An outage is met by whoever takes documents in.
    } finally {
      beating = undefined
    }
  }
  const timer = setInterval(() => {
    beating ??= beat()
  }, BEAT_MS)
  return {
    signal: AbortSignal.any([interrupted, ended.signal]),
    /** Why the runner has to end, when it is not because somebody interrupted it. */
    reason: () => reason,
    /** The migration was finished or rolled back: there is nothing left to do. */
    isOver: () => over,
    async stop() {
      clearInterval(timer)
      await beating
    },
  }
}

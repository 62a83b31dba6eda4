import { setTimeout as delay } from 'node:timers/promises'
import { CHANGES_CHANNEL, type Hints } from '../changes/hints.js'
import { formatPosition } from '../changes/position.js'
import { readHead } from '../changes/read.js'
import type { Pool } from '../db/pool.js'
import { codeOf, UNIQUE_VIOLATION } from '../db/sqlstate.js'
import { transaction } from '../db/transaction.js'
import { DualstoreError } from '../errors.js'
import {
  addCollections,
  askRunner,
  type Beat,
  beat,
  beginPass,
  changeState,
  claimMigration,
  dismissRunner,
  endCollection,
  insertEvent,
  insertMigration,
  listMigrations,
  type MigrationEvent,
  type MigrationState,
  readEvents,
  readMigration,
  readProgress,
  readUnfinished,
  releaseMigration,
  type StoredMigration,
  type StoredProgress,
  storeMark,
  storeRollingBack,
  storeSwitchPosition,
  storeTakenAtCutover,
  storeVerification,
} from '../store/migrations.js'
import { forecast, readHistory, readQuarantine, readQuarantinedAmong } from '../store/migrations-intake.js'
import { newId } from './ids.js'
import { type Comparison, compare } from './migrations/compare.js'
import { prepareIntake } from './migrations/intake.js'
import { isOver, transitions } from './migrations/states.js'
import { createTaking, type RunnerOf } from './migrations/taking.js'
import type { Access } from './principal.js'
import type { Registry } from './registry.js'
import { requireStorable } from './storable.js'

export type {
  Beat,
  Counts,
  Lag,
  MigrationEvent,
  MigrationState,
  StoredMigration,
  StoredProgress,
} from '../store/migrations.js'
export type { HistoryEntry, Intake, QuarantinedDocument, Taken } from '../store/migrations-intake.js'
export type { Comparison, SourceFinding } from './migrations/compare.js'
export type { TakenBatch, TakenDocument } from './migrations/intake.js'

/** Where the documents of a migration come from. */
export interface MigrationSource {
  kind: 'mongo' | 'http'
  /** For people; without user, password or token. */
  name: string
  /** The same for the same source, whatever the credentials. */
  identity: string
}

/** A collection of the source, with the number of documents that it tells of. */
export interface SourceCount {
  collection: string
  documents: number
}

/** What a migration is begun with. */
export interface MigrationOptions {
  collections: readonly string[]
  follow: boolean
  /** The mirror is the source: its documents are replaced in place at the cut-over. */
  adopt: boolean
}

/** A migration with all that is known of it. */
export interface Migration extends StoredMigration {
  collections: StoredProgress[]
  events: MigrationEvent[]
}

export interface MigrationServiceOptions {
  pool: Pool
  registry: Registry
  hints: Hints
  now?: () => number
}

export type MigrationService = ReturnType<typeof createMigrationService>

/** A runner that was not heard of for so long is taken for dead. */
const SILENCE_MS = 3000
/** How often a runner has to tell that it is alive. */
export const BEAT_MS = 500
const LOOK_MS = 200
const QUARANTINE_PAGE = 500

/** Migrations from a legacy server: their state, and the way in for their documents. */
export function createMigrationService({ pool, registry, hints, now = Date.now }: MigrationServiceOptions) {
  const withDetails = async (migration: StoredMigration): Promise<Migration> => {
    const [collections, events] = await Promise.all([
      readProgress(pool, migration.id),
      readEvents(pool, migration.id),
    ])
    return { ...migration, collections, events }
  }
  const get = async (id: string): Promise<Migration> => {
    const migration = await readMigration(pool, id)
    if (migration === undefined) throw new DualstoreError('NOT_FOUND', `there is no migration "${id}"`)
    return withDetails(migration)
  }

  const insert = async (
    source: MigrationSource,
    { adopt, ...options }: MigrationOptions,
    by: string,
  ): Promise<void> => {
    await transaction(pool, async (tx) => {
      const head = await readHead(tx)
      await insertMigration(tx, {
        id: newId('migration', now()),
        source_kind: source.kind,
        source_name: source.name,
        source_identity: source.identity,
        options,
        adopt,
        started_position: formatPosition({ epoch: head.epoch, seq: head.position }),
        created_by: by,
      })
    }).catch((error: unknown) => {
      // Somebody else has begun one at the same moment; whose it is is looked at by whoever called.
      if (codeOf(error) !== UNIQUE_VIOLATION) throw error
    })
  }

  return {
    /** The definition that a collection's documents are held to. @throws COLLECTION_NOT_FOUND */
    definition: async (collection: string) => (await registry.get(collection)).definition,

    /** Names of all collections that documents can be taken into. */
    collections: () => registry.all().map(({ definition }) => definition.name),

    /**
     * The unfinished migration of this source; a new one when there is none.
     * @throws CONFLICT when another source's is unfinished, or this one was cut over and is not to be followed
     */
    async begin(access: Access, source: MigrationSource, options: MigrationOptions): Promise<Migration> {
      if ((await readUnfinished(pool)) === undefined) await insert(source, options, access.principal.id)
      const migration = await readUnfinished(pool)
      if (migration === undefined)
        throw new DualstoreError('CONFLICT', 'the migration has just been finished')
      if (migration.source_identity !== source.identity) {
        throw new DualstoreError(
          'CONFLICT',
          `the migration from ${migration.source_name} is ${migration.state}: finish it or roll it back first`,
        )
      }
      if (migration.state === 'cut_over' && !options.follow) {
        throw new DualstoreError(
          'CONFLICT',
          'this migration was cut over: --follow takes what is still written to the source; or finish it or roll it back',
        )
      }
      if (migration.rolling_back) {
        throw new DualstoreError(
          'CONFLICT',
          'this migration is being rolled back: "rollback" goes on with it, and "cutover" stays where it is',
        )
      }
      return withDetails(migration)
    },

    /**
     * Gives a migration to a runner. One that was killed is taken for dead after three seconds, which are waited for.
     * @param instead The runner that this one stands in for: the same process under another name.
     * @throws CONFLICT when another runner is alive
     */
    async claim({ id, runner }: RunnerOf, instead?: string): Promise<void> {
      const first = (await get(id)).heartbeat_at?.getTime()
      while (!(await claimMigration(pool, id, runner, { silenceMs: SILENCE_MS, instead }))) {
        const other = await get(id)
        if (other.runner !== null && other.heartbeat_at?.getTime() !== first) {
          throw new DualstoreError('CONFLICT', `${other.runner} runs this migration at this time`)
        }
        await delay(LOOK_MS)
      }
    },

    /**
     * Makes a migration's pass ready: goes on with one that was interrupted, and begins another one when all of these
     * collections are done.
     * @param again false: what is done stays so.
     */
    async beginPass(
      id: string,
      collections: readonly SourceCount[],
      { again }: { again: boolean } = { again: true },
    ): Promise<void> {
      await transaction(pool, async (tx) => {
        await addCollections(tx, id, collections)
        // One that was interrupted right behind its last document is not to be read again.
        if (!again || (await readMigration(tx, id))?.state === 'planned') return
        const asked = new Set(collections.map(({ collection }) => collection))
        const progress = (await readProgress(tx, id)).filter(({ collection }) => asked.has(collection))
        if (progress.every(({ done }) => done)) await beginPass(tx, id, collections)
      })
    },

    /** Keeps the place from which following misses nothing, unless there is one. */
    mark: (id: string, collection: string, checkpoint: string) => storeMark(pool, id, collection, checkpoint),

    /** Tells that all of a collection was read in this pass. */
    endCollection: (of: RunnerOf, collection: string) => endCollection(pool, of.id, of.runner, collection),

    /** Puts a batch into the form in which it is taken in. Needs no database: do it while the last one is taken in. */
    prepare: prepareIntake,

    ...createTaking(pool, () => hints.tell(CHANGES_CHANNEL)),

    /** What taking documents in would make of each of those that are not quarantined. Writes nothing. */
    forecast: (intake: Parameters<typeof forecast>[1]) => forecast(pool, intake),

    /**
     * Tells that a runner is alive, and how far it is.
     * @returns the state, and the last question that was asked; undefined when another runner has it now.
     */
    beat: (of: RunnerOf, told: Beat = { lag: null, answered: 0 }) => beat(pool, of.id, of.runner, told),

    /**
     * Asks the runner whether everything was taken in that is written to the source by now. It was when `answered` of
     * the migration has reached the number that is returned; without a runner nobody answers.
     */
    ask: (id: string) => askRunner(pool, id),

    /** Says whether a rollback is under way: nobody takes documents in meanwhile, and whoever does so ends. */
    setRollingBack: (id: string, rollingBack: boolean) => storeRollingBack(pool, id, rollingBack),

    /** Nothing that a runner has under way comes to anything any more. To be called when it should have ended. */
    dismissRunner: (id: string) => dismissRunner(pool, id),

    /** Keeps where the log ends, before clients are asked to switch; the first such place stays. */
    async markSwitch(id: string): Promise<void> {
      const { epoch, position } = await readHead(pool)
      await storeSwitchPosition(pool, id, formatPosition({ epoch, seq: position }))
    },

    /** Gives a migration back, with what ended the run. */
    release: (of: RunnerOf, error: { code: string; message: string } | null = null) =>
      releaseMigration(pool, of.id, of.runner, error),

    /**
     * Moves a migration to another state; being there already is no error.
     * @param by Who asks for it.
     * @throws CONFLICT when the table of transitions does not lead there; NOT_FOUND
     */
    async moveTo(id: string, to: MigrationState, by: string, note: string | null = null): Promise<Migration> {
      for (;;) {
        const { state: from } = await get(id)
        if (from === to) return get(id)
        if (!transitions[from].includes(to)) {
          throw new DualstoreError('CONFLICT', `a migration that is ${from} cannot become ${to}`)
        }
        const moved = await transaction(pool, async (tx) => {
          if (to === 'cut_over') await storeTakenAtCutover(tx, id)
          return changeState(tx, id, { from, to, by, note })
        })
        // Whoever was faster is looked at again.
        if (moved) return get(id)
      }
    },

    /** Tells in the migration's events what came to pass without another state. */
    tell: (id: string, state: MigrationState, by: string, note: string) =>
      insertEvent(pool, id, { from: state, to: state, by, note }),

    /** Lets `work` compare the source of a migration with what is stored; see migrations/compare.ts. */
    compare: <T>(migration: StoredMigration, work: (comparison: Comparison) => Promise<T>) =>
      compare(pool, migration, work),

    /** Keeps what a verification found. */
    storeVerification: (id: string, verification: object) => storeVerification(pool, id, verification),

    /** @throws NOT_FOUND */
    get,

    /** The unfinished migration, or else the newest; undefined when there never was one. */
    async current(): Promise<Migration | undefined> {
      const migration = (await readUnfinished(pool)) ?? (await listMigrations(pool, 1))[0]
      return migration && withDetails(migration)
    },

    isOver,

    /** True while a runner is alive. */
    isRun: ({ runner, silence_ms }: StoredMigration) => runner !== null && (silence_ms ?? 0) < SILENCE_MS,

    /** What a migration could not take, by collection, as NDJSON in chunks of whole lines. */
    async *quarantine(id: string): AsyncGenerator<string> {
      for (let after = { collection: '', source_id: '' }; ; ) {
        const page = await readQuarantine(pool, id, after, QUARANTINE_PAGE)
        const last = page.at(-1)
        if (last === undefined) return
        yield page.map(quarantineLine).join('')
        after = last
      }
    },

    /** Those of these documents of a source that could not be taken. */
    quarantinedAmong: async (collection: string, sourceIds: readonly string[]): Promise<Set<string>> =>
      new Set(await readQuarantinedAmong(pool, collection, sourceIds)),

    /** The documents that gave way to others of an id, the newest first. @throws COLLECTION_NOT_FOUND */
    async history(collection: string, id: string) {
      requireStorable(collection, 'collection')
      requireStorable(id, 'id')
      await registry.get(collection)
      return readHistory(pool, collection, id)
    },
  }
}

/** The document is printed as it is: it is JSON text already. */
function quarantineLine(row: {
  collection: string
  source_id: string
  id: string | null
  reason: string
  document: string
}): string {
  const { document, ...fields } = row
  return `${JSON.stringify(fields).slice(0, -1)},"document":${document}}\n`
}

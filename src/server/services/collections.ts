import { isDeepStrictEqual } from 'node:util'
import { COLLECTIONS_CHANNEL, type Hints } from '../changes/hints.js'
import { formatPosition } from '../changes/position.js'
import { lockLog, readHead } from '../changes/read.js'
import { type Pool, type Queryable, query, runUnlimited } from '../db/pool.js'
import { codeOf } from '../db/sqlstate.js'
import { transaction } from '../db/transaction.js'
import { DualstoreError, invalid } from '../errors.js'
import { MIRROR_FOLLOWER } from '../followers/mirror.js'
import type { CollectionDefinition, CollectionInput } from '../schemas/collection.js'
import { shippedCollections } from '../schemas/shipped-collections.js'
import {
  dropPartition,
  estimateCounts,
  findMirrored,
  insertCollection,
  lockCollection,
  readCollections,
  type StoredCollection,
  setCollectionState,
  updateDefinition,
} from '../store/collections.js'
import { countDocuments, deleteSome, forgetKeysOf } from '../store/documents.js'
import { indexStatements } from '../store/indexes.js'
import { countSelected } from '../store/list.js'
import { readFollowers } from '../store/positions.js'
import { recordAudit } from './audit.js'
import { checkDefinition, completeDefinition } from './definitions.js'
import { findMisfits } from './misfits.js'
import { type Access, covers, isRestricted, type Principal } from './principal.js'
import type { Registry } from './registry.js'
import { requireScope } from './rights.js'

/** A collection as it is told to clients. */
export type CollectionAnswer = CollectionDefinition & {
  /** Shipped with the program: cannot be dropped. */
  shipped: boolean
  /** Counts the changes of the definition. */
  version: number
  created_at: string
  updated_at: string
  documents: number
}

export interface ChangeOptions {
  /** Store the definition although documents do not fit it. */
  allowMisfits?: boolean | undefined
  /** Only tell what would happen. */
  dryRun?: boolean | undefined
}

export interface CollectionServiceOptions {
  pool: Pool
  registry: Registry
  hints: Hints
  /** Called when all documents of a collection are gone, before that is answered. */
  onDropped?: () => void
}

export type CollectionService = ReturnType<typeof createCollectionService>

// PostgreSQL, appendix A.
const PROGRAM_LIMIT_EXCEEDED = '54000'
const DEADLOCK_DETECTED = '40P01'
const RESTRICT_VIOLATION = '23001'
/** Documents deleted in one transaction while a collection is dropped: short enough not to hold up other writers. */
const DROP_BATCH = 1000

export function createCollectionService({ pool, registry, hints, onDropped }: CollectionServiceOptions) {
  const changed = async () => {
    await registry.refresh()
    hints.tell(COLLECTIONS_CHANNEL)
  }

  /** As it stands in PostgreSQL: what is changed must not be what another instance knew a moment ago. */
  const current = async (name: string): Promise<StoredCollection> => {
    await registry.refresh()
    return registry.get(name)
  }

  /** Of the documents, those that the caller may see. */
  const countFor = ({ rows }: Principal, { definition }: StoredCollection): Promise<number> => {
    const { name, schema } = definition
    if (!isRestricted({ rows })) return countDocuments(pool, name)
    return countSelected(pool, { collection: name, schema, filter: rows, text: undefined })
  }

  const answer = async ({ principal }: Access, name: string): Promise<CollectionAnswer> => {
    const stored = await registry.get(name)
    return toAnswer(stored, await countFor(principal, stored))
  }

  /** Two that build indexes of one collection would wait for each other. */
  const changing = new Set<string>()
  const alone = async (name: string, work: () => Promise<void>): Promise<void> => {
    if (changing.has(name)) throw changedMeanwhile()
    changing.add(name)
    await work().finally(() => changing.delete(name))
  }

  const update = async (
    access: Access,
    stored: StoredCollection,
    definition: CollectionDefinition,
    given: ChangeOptions,
  ) => {
    const before = stored.definition
    checkDefinition(definition)
    const misfits = isDeepStrictEqual(before.schema, definition.schema)
      ? { checked: 0, count: 0, sample: [] }
      : await findMisfits(pool, definition)
    if (misfits.count > 0 && !given.allowMisfits && !given.dryRun) {
      throw new DualstoreError(
        'SCHEMA_MISFIT',
        `${misfits.count} of ${misfits.checked} stored documents would not fit; change them, or ask with ` +
          'allow_misfits=true',
        { extra: { misfits } },
      )
    }
    if (!given.dryRun) {
      await alone(definition.name, async () => {
        await buildIndexes(pool, before, definition)
        await transaction(pool, async (tx) => {
          await requireUnchanged(tx, stored)
          if (!isDeepStrictEqual(before.mirror, definition.mirror))
            await requireUnmirrored(tx, definition.name)
          await requireOwnMirror(tx, definition)
          await updateDefinition(tx, definition)
          const details = { changed: changedMembers(before, definition), misfits: misfits.count }
          await recordAudit(tx, access, { action: 'collection.replace', target: definition.name, details })
        })
      })
      await changed()
    }
    return misfits
  }

  return {
    /** Every collection that the caller may read, by name; `documents` is PostgreSQL's estimate. */
    async list({ principal }: Access): Promise<CollectionAnswer[]> {
      await registry.refresh()
      const readable = registry.all().filter(({ definition }) => covers(principal, 'read', definition.name))
      // PostgreSQL's estimates are of all documents.
      if (isRestricted(principal)) {
        return Promise.all(
          readable.map(async (stored) => toAnswer(stored, await countFor(principal, stored))),
        )
      }
      const estimates = await estimateCounts(pool)
      return readable.map((stored) => toAnswer(stored, estimates.get(stored.definition.name) ?? 0))
    },

    /** The definitions this process knows that the caller may read or write, without asking PostgreSQL. */
    known: ({ principal }: Access): CollectionDefinition[] =>
      registry
        .all()
        .map((collection) => collection.definition)
        .filter(({ name }) => covers(principal, 'read', name) || covers(principal, 'write', name)),

    /** One collection; `documents` is counted. @throws COLLECTION_NOT_FOUND for one that the caller may not read too */
    async show(access: Access, name: string): Promise<CollectionAnswer> {
      if (!covers(access.principal, 'read', name)) throw noCollection(name)
      return answer(access, name)
    },

    async create(access: Access, input: CollectionInput): Promise<CollectionAnswer> {
      const definition = completeDefinition(input)
      requireScope(access.principal, 'write', definition.name)
      const audited = (tx: Queryable) => {
        const { label, id_prefix, indexes, mirror } = definition
        const details = { label, id_prefix, indexes, mirror }
        return recordAudit(tx, access, { action: 'collection.create', target: definition.name, details })
      }
      if (!(await createCollection(pool, definition, audited))) {
        throw new DualstoreError('ALREADY_EXISTS', `there is a collection "${definition.name}" already`)
      }
      await changed()
      return toAnswer(await registry.get(definition.name), 0)
    },

    /** Replaces the definition, and tells which stored documents no longer fit. */
    async replace(access: Access, name: string, input: CollectionInput, given: ChangeOptions = {}) {
      requireManager(access, name)
      if (input.name !== name) throw invalid('body.name', `must be "${name}": a collection cannot be renamed`)
      const stored = await current(name)
      // What is left out stays: legacy texts and the mirror's mapping must not go by accident.
      const { label, id_prefix, mirror } = stored.definition
      const complete = { label, id_prefix, ...input, mirror: { ...mirror, ...input.mirror } }
      const misfits = await update(access, stored, completeDefinition(complete), given)
      return { collection: await answer(access, name), misfits }
    },

    /** Replaces the members given. */
    async modify(access: Access, name: string, members: Partial<CollectionInput>, given: ChangeOptions = {}) {
      requireManager(access, name)
      const stored = await current(name)
      const before = stored.definition
      const mirror = { ...before.mirror, ...members.mirror }
      const changes = completeDefinition({ ...before, ...members, mirror })
      const misfits = await update(access, stored, changes, given)
      return { collection: await answer(access, name), misfits }
    },

    /**
     * Drops a collection with its documents, through the log, so that mirror and streams follow.
     * @param confirm Must repeat the name.
     * @returns Number of documents deleted. An interrupted drop is continued by asking again.
     */
    async drop(
      access: Access,
      name: string,
      confirm: string | undefined,
      onProgress?: (deleted: number) => void,
    ): Promise<number> {
      requireManager(access, name)
      if (shippedCollections.some((shipped) => shipped.name === name)) {
        throw new DualstoreError('CONFLICT', `${name} is shipped with dualstore and cannot be dropped`)
      }
      if (confirm !== name) {
        throw new DualstoreError(
          'CONFIRMATION_REQUIRED',
          `confirm must be "${name}": this deletes the collection and all of its documents`,
          { details: [{ field: 'query.confirm', message: `must be "${name}"` }] },
        )
      }
      await transaction(pool, async (tx) => {
        const stored = await lockCollection(tx, name)
        if (stored === undefined || stored.state === 'dropped') throw noCollection(name)
        await setCollectionState(tx, name, 'dropping')
        // Asked again, an interrupted drop is continued, and told again.
        await recordAudit(tx, access, { action: 'collection.drop', target: name, details: {} })
      })
      await changed()
      const by = { author: access.principal.id, address: access.address }
      let deleted = 0
      for (;;) {
        const count = await deleteSome(pool, name, DROP_BATCH, by)
        deleted += count
        onProgress?.(deleted)
        if (count > 0) continue
        if (await finishDrop(pool, name)) break
      }
      onDropped?.()
      await changed()
      return deleted
    },

    /** The log's end: from there on everything that was dropped before is gone. */
    async position(): Promise<string> {
      const { epoch, position } = await readHead(pool)
      return formatPosition({ epoch, seq: position })
    },

    /** Number of documents, counted. */
    async count({ principal }: Access, name: string): Promise<number> {
      if (!covers(principal, 'read', name)) throw noCollection(name)
      return countFor(principal, await registry.get(name))
    },
  }
}

/** Adds the collections that ship with the program where they are missing. */
export async function ensureShipped(pool: Pool): Promise<void> {
  const known = new Set((await readCollections(pool)).map((stored) => stored.definition.name))
  const missing = shippedCollections.filter((definition) => !known.has(definition.name))
  for (const definition of missing) await createCollection(pool, definition)
}

/**
 * Partition, definition and indexes in one transaction; false when the name is in use.
 * @param also What else belongs into that transaction.
 */
async function createCollection(
  pool: Pool,
  definition: CollectionDefinition,
  also?: (tx: Queryable) => Promise<void>,
): Promise<boolean> {
  return transaction(pool, async (tx) => {
    const stored = await lockCollection(tx, definition.name)
    if (stored !== undefined && stored.state !== 'dropped') return false
    if (stored !== undefined && !isDeepStrictEqual(stored.definition.mirror, definition.mirror)) {
      await requireUnmirrored(tx, definition.name)
    }
    await requireOwnMirror(tx, definition)
    if (!(await insertCollection(tx, definition))) return false
    for (const statement of await indexStatements(tx, definition, false)) await query(tx, statement)
    await also?.(tx)
    return true
  })
}

/** Removes the empty partition; false when a write that began before the drop has put a document into it. */
async function finishDrop(pool: Pool, name: string): Promise<boolean> {
  try {
    return await transaction(pool, async (tx) => {
      if ((await countDocuments(tx, name)) > 0) return false
      await dropPartition(tx, name)
      await forgetKeysOf(tx, name)
      await setCollectionState(tx, name, 'dropped')
      return true
    })
  } catch (error) {
    // Between the count and the partition's lock a write has been committed.
    if (codeOf(error) === RESTRICT_VIOLATION) return false
    throw error
  }
}

/** Documents mirrored one way, and their deletion, must have reached the mirror before another way can begin. */
async function requireUnmirrored(tx: Queryable, name: string): Promise<void> {
  // Nobody commits a document while the log is locked, so that both answers stay true.
  await lockLog(tx)
  const head = (await readHead(tx)).position
  const behind = (await readFollowers(tx)).some(
    (follower) => follower.id === MIRROR_FOLLOWER && follower.position < head,
  )
  if ((await countDocuments(tx, name)) === 0 && !behind) return
  throw new DualstoreError(
    'CONFLICT',
    'mirror can only be changed while the collection is empty and the mirror has caught up: its documents are ' +
      'mirrored the old way',
  )
}

async function requireUnchanged(tx: Queryable, before: StoredCollection): Promise<void> {
  const { name } = before.definition
  const now = await lockCollection(tx, name)
  if (now?.state !== 'active') throw noCollection(name)
  if (now.version !== before.version) {
    throw changedMeanwhile()
  }
}

/** Two collections mirrored into one would overwrite each other's documents there. */
async function requireOwnMirror(tx: Queryable, { name, mirror }: CollectionDefinition): Promise<void> {
  const other = await findMirrored(tx, mirror.collection, name)
  if (other === undefined) return
  const message = `must not be "${mirror.collection}": the collection "${other}" is mirrored there`
  throw invalid('mirror.collection', message, 'INVALID_DEFINITION')
}

/** Makes what the new definition adds and removes what it drops; when that fails, the old definition's indexes stand. */
async function buildIndexes(
  pool: Pool,
  before: CollectionDefinition,
  after: CollectionDefinition,
): Promise<void> {
  try {
    await runUnlimited(pool, await indexStatements(pool, after, true))
  } catch (error) {
    // Another instance is at the same collection: its indexes are for it to finish.
    if (codeOf(error) === DEADLOCK_DETECTED) throw changedMeanwhile(error)
    await runUnlimited(pool, await indexStatements(pool, before, true))
    if (codeOf(error) !== PROGRAM_LIMIT_EXCEEDED) throw error
    throw new DualstoreError(
      'CONFLICT',
      'a stored document holds a value that is too long for an index (about 2,600 bytes); nothing was changed',
      { cause: error },
    )
  }
}

function changedMeanwhile(cause?: unknown): DualstoreError {
  const message = 'somebody else changed the definition meanwhile; look at it and try again'
  return new DualstoreError('CONFLICT', message, { cause })
}

function toAnswer(stored: StoredCollection, documents: number): CollectionAnswer {
  return {
    ...stored.definition,
    shipped: shippedCollections.some((shipped) => shipped.name === stored.definition.name),
    version: stored.version,
    created_at: stored.created_at.toISOString(),
    updated_at: stored.updated_at.toISOString(),
    documents,
  }
}

/** @throws FORBIDDEN. Whoever changes or drops a collection meets documents that their rows might hide from them. */
function requireManager({ principal }: Access, name: string): void {
  requireScope(principal, 'write', name)
  if (isRestricted(principal)) throw new DualstoreError('FORBIDDEN', 'this needs a key without rows')
}

/** The names of what a new definition changes. */
function changedMembers(before: CollectionDefinition, after: CollectionDefinition): string[] {
  const names = Object.keys(after) as (keyof CollectionDefinition)[]
  return names.filter((name) => !isDeepStrictEqual(before[name], after[name]))
}

function noCollection(name: string): DualstoreError {
  return new DualstoreError('COLLECTION_NOT_FOUND', `there is no collection "${name}"`)
}

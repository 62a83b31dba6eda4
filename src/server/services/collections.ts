import { isDeepStrictEqual } from 'node:util'
import { COLLECTIONS_CHANNEL, type Hints } from '../changes/hints.js'
import { formatPosition } from '../changes/position.js'
import { lockLog, readHead } from '../changes/read.js'
import { type Pool, type Queryable, query, runUnlimited } from '../db/pool.js'
import { codeOf } from '../db/sqlstate.js'
import { transaction } from '../db/transaction.js'
import { DualstoreError, invalid } from '../errors.js'
import { everything } from '../filter/ast.js'
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
import { readFollowers } from '../store/positions.js'
import { scanDocuments } from '../store/scan.js'
import { checkDefinition, completeDefinition } from './definitions.js'
import { compileItemValidator, ownFields } from './item-validator.js'
import type { Registry } from './registry.js'

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

/** Stored documents that a new schema would not accept. */
export interface Misfits {
  checked: number
  count: number
  /** The first of them, with what is wrong. */
  sample: { id: string; field: string; message: string }[]
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
}

export type CollectionService = ReturnType<typeof createCollectionService>

// PostgreSQL, appendix A.
const PROGRAM_LIMIT_EXCEEDED = '54000'
const RESTRICT_VIOLATION = '23001'
const SAMPLE = 20
/** Documents deleted in one transaction while a collection is dropped: short enough not to hold up other writers. */
const DROP_BATCH = 1000

export function createCollectionService({ pool, registry, hints }: CollectionServiceOptions) {
  const changed = async () => {
    await registry.refresh()
    hints.tell(COLLECTIONS_CHANNEL)
  }

  /** As it stands in PostgreSQL: what is changed must not be what another instance knew a moment ago. */
  const current = async (name: string): Promise<StoredCollection> => {
    await registry.refresh()
    return registry.get(name)
  }

  const update = async (stored: StoredCollection, definition: CollectionDefinition, given: ChangeOptions) => {
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
      await buildIndexes(pool, before, definition)
      await transaction(pool, async (tx) => {
        await requireUnchanged(tx, stored)
        if (!isDeepStrictEqual(before.mirror, definition.mirror)) await requireUnmirrored(tx, definition.name)
        await requireOwnMirror(tx, definition)
        await updateDefinition(tx, definition)
      })
      await changed()
    }
    return misfits
  }

  return {
    /** Every collection by name; `documents` is PostgreSQL's estimate. */
    async list(): Promise<CollectionAnswer[]> {
      await registry.refresh()
      const estimates = await estimateCounts(pool)
      return registry.all().map((stored) => toAnswer(stored, estimates.get(stored.definition.name) ?? 0))
    },

    /** The definitions this process knows, without asking PostgreSQL. */
    known: (): CollectionDefinition[] => registry.all().map((collection) => collection.definition),

    /** One collection; `documents` is counted. */
    async show(name: string): Promise<CollectionAnswer> {
      return toAnswer(await registry.get(name), await countDocuments(pool, name))
    },

    async create(input: CollectionInput): Promise<CollectionAnswer> {
      const definition = completeDefinition(input)
      if (!(await createCollection(pool, definition))) {
        throw new DualstoreError('ALREADY_EXISTS', `there is a collection "${definition.name}" already`)
      }
      await changed()
      return toAnswer(await registry.get(definition.name), 0)
    },

    /** Replaces the definition, and tells which stored documents no longer fit. */
    async replace(name: string, input: CollectionInput, given: ChangeOptions = {}) {
      if (input.name !== name) throw invalid('body.name', `must be "${name}": a collection cannot be renamed`)
      const stored = await current(name)
      // What is left out stays: legacy texts and the mirror's mapping must not go by accident.
      const { label, id_prefix, mirror } = stored.definition
      const complete = { label, id_prefix, ...input, mirror: { ...mirror, ...input.mirror } }
      const misfits = await update(stored, completeDefinition(complete), given)
      return { collection: await this.show(name), misfits }
    },

    /** Replaces the members given. */
    async modify(name: string, members: Partial<CollectionInput>, given: ChangeOptions = {}) {
      const stored = await current(name)
      const before = stored.definition
      const mirror = { ...before.mirror, ...members.mirror }
      const misfits = await update(stored, completeDefinition({ ...before, ...members, mirror }), given)
      return { collection: await this.show(name), misfits }
    },

    /**
     * Drops a collection with its documents, through the log, so that mirror and streams follow.
     * @param confirm Must repeat the name.
     * @returns Number of documents deleted. An interrupted drop is continued by asking again.
     */
    async drop(
      name: string,
      confirm: string | undefined,
      onProgress?: (deleted: number) => void,
    ): Promise<number> {
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
      })
      await changed()
      let deleted = 0
      for (;;) {
        const count = await deleteSome(pool, name, DROP_BATCH)
        deleted += count
        onProgress?.(deleted)
        if (count > 0) continue
        if (await finishDrop(pool, name)) break
      }
      await changed()
      return deleted
    },

    /** The log's end: from there on everything that was dropped before is gone. */
    async position(): Promise<string> {
      const { epoch, position } = await readHead(pool)
      return formatPosition({ epoch, seq: position })
    },

    /** Number of documents, counted. */
    async count(name: string): Promise<number> {
      return countDocuments(pool, (await registry.get(name)).definition.name)
    },
  }
}

/** Adds the collections that ship with the program where they are missing. */
export async function ensureShipped(pool: Pool): Promise<void> {
  const known = new Set((await readCollections(pool)).map((stored) => stored.definition.name))
  const missing = shippedCollections.filter((definition) => !known.has(definition.name))
  for (const definition of missing) await createCollection(pool, definition)
}

/** Partition, definition and indexes in one transaction; false when the name is in use. */
async function createCollection(pool: Pool, definition: CollectionDefinition): Promise<boolean> {
  return transaction(pool, async (tx) => {
    const stored = await lockCollection(tx, definition.name)
    if (stored !== undefined && stored.state !== 'dropped') return false
    if (stored !== undefined && !isDeepStrictEqual(stored.definition.mirror, definition.mirror)) {
      await requireUnmirrored(tx, definition.name)
    }
    await requireOwnMirror(tx, definition)
    if (!(await insertCollection(tx, definition))) return false
    for (const statement of await indexStatements(tx, definition, false)) await query(tx, statement)
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
    throw new DualstoreError(
      'CONFLICT',
      'somebody else changed the definition meanwhile; look at it and try again',
    )
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
    await runUnlimited(pool, await indexStatements(pool, before, true))
    if (codeOf(error) !== PROGRAM_LIMIT_EXCEEDED) throw error
    throw new DualstoreError(
      'CONFLICT',
      'a stored document holds a value that is too long for an index (about 2,600 bytes); nothing was changed',
      { cause: error },
    )
  }
}

/** Reads every stored document in pages and checks it against a definition; constant memory. */
async function findMisfits(pool: Pool, definition: CollectionDefinition): Promise<Misfits> {
  const validate = compileItemValidator(definition.schema)
  const misfits: Misfits = { checked: 0, count: 0, sample: [] }
  const selection = {
    collection: definition.name,
    schema: definition.schema,
    filter: everything,
    text: undefined,
  }
  for await (const page of scanDocuments(pool, selection)) {
    for (const { id, text } of page) {
      const fault = validate(ownFields(JSON.parse(text)), 'item')
      misfits.checked++
      if (fault === undefined) continue
      misfits.count++
      if (misfits.sample.length < SAMPLE) misfits.sample.push({ id, ...fault })
    }
  }
  return misfits
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

function noCollection(name: string): DualstoreError {
  return new DualstoreError('COLLECTION_NOT_FOUND', `there is no collection "${name}"`)
}

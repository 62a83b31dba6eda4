import type { Pool } from '../db/pool.js'
import { sharedReading } from '../db/shared-reading.js'
import { DualstoreError } from '../errors.js'
import type { Log } from '../followers/contract.js'
import type { CollectionDefinition } from '../schemas/collection.js'
import { readCollections, type StoredCollection } from '../store/collections.js'
import { compileItemValidator, type ItemValidator } from './item-validator.js'

/** A collection as this process uses it. */
export interface Collection extends StoredCollection {
  validate: ItemValidator
}

/**
 * The collections this process knows. What another instance makes is found when it is asked for; what another
 * instance changes is seen with its notification, or at the latest after `refreshMs`.
 */
export interface Registry {
  /** An active collection, as far as this process knows. */
  find(name: string): Collection | undefined
  /** @throws COLLECTION_NOT_FOUND, after having looked once more when the name is unknown. */
  get(name: string): Promise<Collection>
  /** The definition, also of a collection that was dropped: followers still meet its last changes. */
  definition(name: string): Promise<CollectionDefinition | undefined>
  /** The active collections, by name. */
  all(): readonly Collection[]
  refresh(): Promise<void>
  /** Starts refreshing in the background; the returned function stops it. */
  watch(refreshMs: number): () => void
}

export function createRegistry(pool: Pool, log?: Log): Registry {
  let collections = new Map<string, Collection>()

  const load = async () => {
    const rows = await readCollections(pool)
    collections = new Map(
      rows.map((row) => {
        const known = collections.get(row.definition.name)
        const validate = known?.version === row.version ? known.validate : compileStored(row.definition, log)
        return [row.definition.name, { ...row, validate }]
      }),
    )
  }
  const refresh = sharedReading(load)
  const active = (name: string): Collection | undefined => {
    const collection = collections.get(name)
    return collection?.state === 'active' ? collection : undefined
  }

  return {
    find: active,
    async get(name) {
      const known = active(name)
      if (known !== undefined) return known
      await refresh()
      const found = active(name)
      if (found !== undefined) return found
      throw new DualstoreError('COLLECTION_NOT_FOUND', `there is no collection "${name}"`)
    },
    async definition(name) {
      // Whoever asks has met a document of it, so it exists: an answer that is a moment old will not do, nor will
      // a refresh that was under way already.
      for (let looks = 0; looks < 2 && !collections.has(name); looks++) await refresh()
      return collections.get(name)?.definition
    },
    all: () => [...collections.values()].filter((collection) => collection.state === 'active'),
    refresh,
    watch(refreshMs) {
      const timer = setInterval(() => void refresh().catch(() => {}), refreshMs)
      timer.unref()
      return () => clearInterval(timer)
    },
  }
}

/** What was stored by an earlier version must not keep this one from starting, even if its pattern can be slow. */
function compileStored({ name, schema }: CollectionDefinition, log: Log | undefined): ItemValidator {
  return compileItemValidator(schema, {
    onUnsafePattern: (pattern) =>
      log?.warn(
        { collection: name, pattern },
        'a pattern of this collection cannot be tried in linear time: whoever may write to it can stop this server ' +
          'for a while; change the definition',
      ),
  })
}

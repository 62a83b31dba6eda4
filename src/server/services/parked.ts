import type { Pool } from '../db/pool.js'
import { DualstoreError, invalid } from '../errors.js'
import { MIRROR_FOLLOWER } from '../followers/mirror.js'
import type { Mirror, RawDocument } from '../mirror/contract.js'
import type { Difference } from '../mirror/difference.js'
import type { Item } from '../schemas/item.js'
import type { ParkedAnswer, ParkedDetailAnswer } from '../schemas/jobs.js'
import { readDocumentsAt } from '../store/chunks.js'
import {
  beginRetry,
  listParked,
  type ParkedRecord,
  parkDocuments,
  readParked,
  unpark,
} from '../store/parked.js'
import { compareDocument } from './audit/compare.js'
import type { Registry } from './registry.js'

/** A parked document and what either store holds of it. */
export interface ParkedDetail extends ParkedRecord {
  /** In PostgreSQL; null when it is deleted. */
  document: { version: number; item: Item } | null
  /** In the mirror, as it lies there; null when there is none. */
  mirrored: RawDocument | null
  differences: Difference[]
}

/** What a retry led to. */
export type RetryOutcome = { outcome: 'applied' } | { outcome: 'parked'; reason: string }

export interface ParkedServiceOptions {
  pool: Pool
  registry: Registry
  mirror: Mirror | undefined
}

export type ParkedService = ReturnType<typeof createParkedService>

interface Key {
  collection: string
  id: string
}

/** The documents that the mirror refused (I6), and what an operator does about them. */
export function createParkedService({ pool, registry, mirror }: ParkedServiceOptions) {
  const follower = MIRROR_FOLLOWER

  const get = async (key: Key): Promise<ParkedRecord> => {
    const record = await readParked(pool, follower, key)
    if (record !== undefined) return record
    throw new DualstoreError('NOT_FOUND', `${key.collection}/${key.id} is not parked`)
  }
  const requireMirror = (): Mirror => {
    if (mirror !== undefined) return mirror
    throw new DualstoreError('MIRROR_UNAVAILABLE', 'there is no mirror: DUAL_WRITE_ENABLED is false')
  }

  return {
    /** By collection and id, behind a place. */
    list: (page: { collection: string | undefined; after: Key; limit: number }): Promise<ParkedRecord[]> =>
      listParked(pool, follower, page),

    /** @throws NOT_FOUND, MIRROR_UNAVAILABLE */
    async show(key: Key): Promise<ParkedDetail> {
      const record = await get(key)
      const { collection, id } = key
      const definition = await registry.definition(collection)
      const mirrored = definition && (await requireMirror().rawMany(definition, [id])).get(id)
      const { documents, position } = await readDocumentsAt(pool, collection, [id])
      const stored = documents.get(id)
      const compared = definition && compareDocument(definition, stored, mirrored, position)
      return {
        ...record,
        document: stored ? { version: stored.version, item: JSON.parse(stored.text) as Item } : null,
        mirrored: mirrored ?? null,
        differences: compared?.kind === 'different' ? compared.differences : [],
      }
    },

    /**
     * Gives the mirror the document as it is now, deleted or not. From the first step on later changes are no longer
     * held back, so what is read afterwards holds all that were; a refusal parks it again. A retry that is cut off
     * leaves it among the parked ones.
     * @throws NOT_FOUND, MIRROR_UNAVAILABLE
     */
    async retry(key: Key): Promise<RetryOutcome> {
      const store = requireMirror()
      if (!(await beginRetry(pool, follower, key))) await get(key)
      const { collection, id } = key
      const definition = await registry.definition(collection)
      const { documents, position: seq } = await readDocumentsAt(pool, collection, [id])
      const stored = documents.get(id)
      const reasons: string[] = []
      if (definition === undefined) reasons.push(`the collection ${collection} has no definition`)
      else {
        await store.prepare(definition)
        const item = stored === undefined ? null : (JSON.parse(stored.text) as Item)
        const rejections = await store.apply([{ definition, id, seq, version: stored?.version ?? 0, item }])
        reasons.push(...rejections.map(({ reason }) => reason))
      }
      const [reason] = reasons
      if (reason === undefined) {
        await unpark(pool, follower, key, 'retried')
        return { outcome: 'applied' }
      }
      await parkDocuments(pool, follower, [{ collection, id, seq, reason }])
      return { outcome: 'parked', reason }
    },

    /**
     * Gives up on what the mirror refused: it keeps what it has until the next change of the document, which flows
     * again. @throws NOT_FOUND
     */
    async skip(key: Key): Promise<void> {
      if (!(await unpark(pool, follower, key, 'always'))) await get(key)
    },
  }
}

/** The place that `after` names: `<collection>/<id>`. @throws INVALID_REQUEST */
export function placeOf(after: string | undefined): Key {
  if (after === undefined) return { collection: '', id: '' }
  const slash = after.indexOf('/')
  if (slash < 1) throw invalid('query.after', 'must be <collection>/<id> of a parked document')
  return { collection: after.slice(0, slash), id: after.slice(slash + 1) }
}

/** A parked document as it is told to clients. */
export function parkedAnswer({ parked_at, ...record }: ParkedRecord): ParkedAnswer {
  return { ...record, parked_at: parked_at.toISOString() }
}

export function parkedDetailAnswer({
  document,
  mirrored,
  differences,
  ...record
}: ParkedDetail): ParkedDetailAnswer {
  return { ...parkedAnswer(record), document, mirrored, differences }
}

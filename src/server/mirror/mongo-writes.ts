import { type AnyBulkWriteOperation, BSON, type Collection } from 'mongodb'
import { step } from '../activity.js'
import type { CollectionDefinition } from '../schemas/collection.js'
import type { LegacyDocument, MirrorChange, Rejection } from './contract.js'
import { shaped } from './legacy-shape.js'
import { DUPLICATE_KEY, isAboutContent, refusedWrites } from './mongo-errors.js'

// One bulk stays far below the driver's message limit of 48 MB and, on a slow server, below the time limit.
const BULK_DOCUMENTS = 500
const BULK_BYTES = 8 * 1024 * 1024
// The same in every MongoDB. The driver's serializer must not see anything larger: past its own buffer it fails with
// an error that says nothing about size.
const LARGEST_DOCUMENT_BYTES = 16 * 1024 * 1024

/** Documents that dualstore wrote. Other programs may keep theirs in the same collection. */
export const ours = { 'dualstore.seq': { $exists: true } } as const

/** A change with its document; null deletes. */
interface Write {
  change: MirrorChange
  document: LegacyDocument | null
}

/**
 * Writes changes of any number of collections in bulks of bounded size, as Mirror.apply says.
 * @param collectionOf The collection of a definition's documents.
 * @param timeoutMs How long the server may work on one bulk.
 */
export async function applyChanges(
  collectionOf: (definition: CollectionDefinition) => Promise<Collection<LegacyDocument>>,
  changes: readonly MirrorChange[],
  timeoutMs: number,
): Promise<Rejection[]> {
  const groups = new Map<string, MirrorChange[]>()
  for (const change of changes) {
    const name = change.definition.mirror.collection
    const group = groups.get(name)
    if (group === undefined) groups.set(name, [change])
    else group.push(change)
  }
  const rejections: Rejection[] = []
  for (const group of groups.values()) {
    for (const bulk of bulks(group, rejections)) {
      rejections.push(...(await applyBulk(await collectionOf(bulk[0].change.definition), bulk, timeoutMs)))
    }
  }
  return rejections
}

/** Cuts changes into bulks of bounded size; what has no legacy document, or one that is too large, is rejected. */
function* bulks(changes: readonly MirrorChange[], rejections: Rejection[]): Generator<[Write, ...Write[]]> {
  let bulk: Write[] = []
  let bytes = 0
  for (const change of changes) {
    let document: LegacyDocument | null = null
    if (change.item !== null) {
      const shape = shaped(change, change.item)
      if ('rejection' in shape) {
        rejections.push(shape.rejection)
        continue
      }
      document = shape.document
    }
    const size = document === null ? 0 : BSON.calculateObjectSize(document)
    if (size > LARGEST_DOCUMENT_BYTES) {
      const reason = `as BSON the document takes ${size} bytes, and MongoDB takes ${LARGEST_DOCUMENT_BYTES} at most`
      rejections.push({ change, reason })
      continue
    }
    const [first, ...others] = bulk
    if (first !== undefined && (bulk.length === BULK_DOCUMENTS || bytes + size > BULK_BYTES)) {
      yield [first, ...others]
      bulk = []
      bytes = 0
    }
    bulk.push({ change, document })
    bytes += size
  }
  const [first, ...others] = bulk
  if (first !== undefined) yield [first, ...others]
}

/** Writes a bulk and returns what can never be written. Finds the culprit by halves when all of it is refused. */
async function applyBulk(
  collection: Collection<LegacyDocument>,
  bulk: readonly Write[],
  timeoutMs: number,
): Promise<Rejection[]> {
  try {
    const refused = await writeBulk(collection, bulk, timeoutMs)
    if (refused.length === 0) return []
    const behind = await stillBehind(collection, refused, timeoutMs)
    // Two writers that both find no document both insert it; the one with the later position must then replace it.
    const again = await writeBulk(collection, behind, timeoutMs)
    const lost = await stillBehind(collection, again, timeoutMs)
    return lost.map(({ change, reason }) => ({ change, reason }))
  } catch (error) {
    if (!isAboutContent(error)) throw error
    const [only, second] = bulk
    if (only === undefined) throw error
    if (second === undefined) return [{ change: only.change, reason: error.message }]
    const middle = Math.ceil(bulk.length / 2)
    const first = await applyBulk(collection, bulk.slice(0, middle), timeoutMs)
    return [...first, ...(await applyBulk(collection, bulk.slice(middle), timeoutMs))]
  }
}

interface Refused extends Write {
  code: number
  reason: string
}

/** One unordered bulk, each write conditional on the position (I4). Returns the writes that the server refused. */
async function writeBulk(
  collection: Collection<LegacyDocument>,
  bulk: readonly Write[],
  timeoutMs: number,
): Promise<Refused[]> {
  if (bulk.length === 0) return []
  const operations = bulk.map(({ change, document }): AnyBulkWriteOperation<LegacyDocument> => {
    const { id, seq, over } = change
    // Not "less than": a document without a position is to match too.
    const filter = { _id: id, 'dualstore.seq': over ?? { $not: { $gte: seq } } }
    if (document === null) return { deleteOne: { filter } }
    return { replaceOne: { filter, replacement: document, upsert: over === undefined } }
  })
  try {
    const attributes = {
      'db.collection.name': collection.collectionName,
      'db.operation.batch.size': operations.length,
    }
    await step({ name: 'bulkWrite', store: 'mongodb', attributes }, () =>
      collection.bulkWrite(operations, { ordered: false, maxTimeMS: timeoutMs }),
    )
    return []
  } catch (error) {
    const refused = refusedWrites(error)
    if (refused === undefined) throw error
    return refused.flatMap((one) => {
      const write = bulk[one.index]
      return write === undefined
        ? []
        : [{ ...write, code: one.code, reason: one.errmsg ?? `error ${one.code}` }]
    })
  }
}

/**
 * The refused writes without those that a later position has overtaken. An upsert whose filter matches nothing
 * inserts, and a document that already stands at this position or a later one makes that a duplicate key. So does
 * any other unique index, which is why the code alone does not tell.
 */
async function stillBehind(
  collection: Collection<LegacyDocument>,
  refused: readonly Refused[],
  timeoutMs: number,
): Promise<Refused[]> {
  const duplicates = refused.filter(({ code }) => code === DUPLICATE_KEY)
  if (duplicates.length === 0) return [...refused]
  // Majority: a position that a failover could still take back must not count as reached.
  const standing = await collection
    .find(
      { _id: { $in: duplicates.map(({ change }) => change.id) }, ...ours },
      { projection: { 'dualstore.seq': 1 }, readConcern: 'majority', maxTimeMS: timeoutMs },
    )
    .toArray()
  const positions = new Map(standing.map(({ _id, dualstore }) => [_id, dualstore.seq]))
  return refused.filter(({ change, code }) => {
    const position = positions.get(change.id)
    return code !== DUPLICATE_KEY || position === undefined || position < change.seq
  })
}

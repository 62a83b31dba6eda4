import type { Pool } from '../../db/pool.js'
import { everything } from '../../filter/ast.js'
import { compareCodePoints } from '../../filter/compare.js'
import type { IdRange, Mirror, RawDocument } from '../../mirror/contract.js'
import type { CollectionDefinition } from '../../schemas/collection.js'
import { type Chunk, createDigest } from '../../store/chunks.js'
import type { StoredDocument } from '../../store/documents.js'
import { scanDocuments } from '../../store/scan.js'
import { addRaw, compareDocument, isOurs } from './compare.js'

/** True when the mirror's documents of a range have the chunk's hash. */
export async function chunkAgrees(
  mirror: Mirror,
  definition: CollectionDefinition,
  range: IdRange,
  chunk: Chunk,
): Promise<boolean> {
  const digest = createDigest()
  let count = 0
  for await (const page of mirror.raw(definition, range)) {
    for (const { document } of page) {
      // Under an id of ours it is missing from this hash, and so makes it differ.
      if (!isOurs(document)) continue
      if (++count > chunk.documents || !addRaw(digest, definition, document, chunk.position)) return false
    }
  }
  return digest.end() === chunk.digest
}

// Of documents that look different so many are decided about together.
const BATCH = 100
const BATCH_TEXT = 4 * 1024 * 1024

/** Some of a range has been looked at, up to an id. */
export interface Looked {
  /** Those that look different. */
  ids: string[]
  /** The last id that was looked at. */
  last: string
  /** Documents of PostgreSQL since the batch before. */
  documents: number
}

/**
 * Reads a range on both sides, side by side by ascending id, and tells in batches which documents look different. Of
 * PostgreSQL nothing is read behind the chunk, so that it ends whatever is being added there.
 */
export async function* suspects(
  pool: Pool,
  mirror: Mirror,
  definition: CollectionDefinition,
  range: IdRange,
  chunk: Chunk,
): AsyncGenerator<Looked> {
  let looked: Looked = { ids: [], last: '', documents: 0 }
  let size = 0
  const { after = '' } = range
  const ours = storedIn(pool, definition.name, after, chunk.last ?? after)
  for await (const { id, stored, raw } of sideBySide(ours, mirror.raw(definition, range))) {
    looked.last = id
    if (stored !== undefined) looked.documents++
    // No id of PostgreSQL's holds it, and PostgreSQL cannot even be asked.
    if (id.includes('\0')) continue
    if (compareDocument(definition, stored, raw, chunk.position).kind === 'equal') continue
    looked.ids.push(id)
    size += stored?.text.length ?? JSON.stringify(raw).length
    if (looked.ids.length < BATCH && size < BATCH_TEXT) continue
    yield looked
    looked = { ids: [], last: id, documents: 0 }
    size = 0
  }
  if (looked.last !== '') yield looked
}

interface Pair {
  id: string
  stored: StoredDocument | undefined
  raw: RawDocument | undefined
}

/** Two ordered readings merged: each id once, with what either side has under it. */
async function* sideBySide(
  ours: AsyncIterable<StoredDocument[]>,
  theirs: ReturnType<Mirror['raw']>,
): AsyncGenerator<Pair> {
  const stored = each(ours)[Symbol.asyncIterator]()
  const mirrored = each(theirs)[Symbol.asyncIterator]()
  try {
    let left = await stored.next()
    let right = await mirrored.next()
    while (!left.done || !right.done) {
      const order = left.done ? 1 : right.done ? -1 : compareCodePoints(left.value.id, right.value.id)
      const id = order <= 0 && !left.done ? left.value.id : right.done ? '' : right.value.id
      yield {
        id,
        stored: order <= 0 && !left.done ? left.value : undefined,
        raw: order >= 0 && !right.done ? right.value.document : undefined,
      }
      if (order <= 0) left = await stored.next()
      if (order >= 0) right = await mirrored.next()
    }
  } finally {
    await stored.return?.(undefined)
    await mirrored.return?.(undefined)
  }
}

function storedIn(
  pool: Pool,
  collection: string,
  after: string,
  upTo: string,
): AsyncIterable<StoredDocument[]> {
  const selection = { collection, schema: {}, filter: everything, text: undefined }
  return scanDocuments(pool, selection, after, upTo)
}

async function* each<T>(pages: AsyncIterable<T[]>): AsyncGenerator<T> {
  for await (const page of pages) yield* page
}

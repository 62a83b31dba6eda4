import { BSON, type Collection, type Document } from 'mongodb'
import type { CollectionDefinition } from '../schemas/collection.js'
import type { ForeignDocument, IdRange, LegacyDocument, Mirror, RawDocument } from './contract.js'

export interface AuditOptions {
  collectionOf(definition: CollectionDefinition): Promise<Collection<LegacyDocument>>
  /** A named step that is watched, and that translates what goes wrong. */
  request<T>(name: string, work: () => Promise<T>): Promise<T>
  /** The same without the step, for what comes in great numbers. */
  answered<T>(work: () => Promise<T>): Promise<T>
  timeLimitMs: number
}

/** Documents in one answer of a cursor. The driver holds all of them at once, so that large ones must be few. */
const BATCH = 200
/** Every type as it is stored: an integer must not be deleted for a double of the same value. */
const EXACT = { promoteValues: false, promoteLongs: false, promoteBuffers: false, bsonRegExp: true } as const
const { EJSON } = BSON

type Audit = Pick<Mirror, 'raw' | 'rawMany' | 'forgetPosition' | 'foreign' | 'removeForeign'>

/** What verifying and repairing ask of a MongoDB. */
export function createAudit({ collectionOf, request, answered, timeLimitMs }: AuditOptions): Audit {
  async function* pages(
    definition: CollectionDefinition,
    filter: Document,
    options: Document,
  ): AsyncGenerator<RawDocument[]> {
    const cursor = await request('find', async () => {
      const found = (await collectionOf(definition)).find(filter, {
        maxTimeMS: timeLimitMs,
        batchSize: BATCH,
        ...options,
      })
      return found as unknown as AsyncCursor
    })
    try {
      for (;;) {
        const document = await answered(() => cursor.next())
        if (document === null) return
        // With it came the others of the same answer.
        yield [document, ...cursor.readBufferedDocuments()]
      }
    } finally {
      await cursor.close().catch(() => {})
    }
  }

  return {
    async *raw(definition, range) {
      for await (const page of pages(definition, { _id: idsIn(range) }, { sort: { _id: 1 } })) {
        yield page.map((document) => ({ id: document._id as string, document }))
      }
    },

    async rawMany(definition, ids) {
      const found = new Map<string, RawDocument>()
      for await (const page of pages(definition, { _id: { $in: [...ids] } }, {})) {
        for (const document of page) found.set(document._id as string, document)
      }
      return found
    },

    forgetPosition: (definition, id, seq) =>
      request('forgetPosition', async () => {
        const filter = { _id: id, 'dualstore.seq': seq } as Document
        await (await collectionOf(definition)).updateOne(filter, { $set: { 'dualstore.seq': -1 } })
      }),

    async *foreign(definition, what): AsyncGenerator<ForeignDocument> {
      const projection = what === 'ids' ? { _id: 1 } : {}
      const filter = { 'dualstore.seq': { $exists: false } }
      for await (const page of pages(definition, filter, { projection, ...EXACT })) {
        for (const document of page) {
          const { _id: id } = document
          yield {
            id: typeof id === 'string' ? id : undefined,
            line: EJSON.stringify(document, { relaxed: false }),
          }
        }
      }
    },

    removeForeign: (definition, lines) =>
      request('removeForeign', async () => {
        const operations = lines.map((line) => ({ deleteOne: { filter: exactly(line) } }))
        if (operations.length === 0) return 0
        const collection = await collectionOf(definition)
        const { deletedCount } = await collection.bulkWrite(operations as never, { ordered: false })
        return deletedCount
      }),
  }
}

interface AsyncCursor {
  next(): Promise<RawDocument | null>
  readBufferedDocuments(): RawDocument[]
  close(): Promise<void>
}

/** Comparing with a text leaves out every other type of `_id`. */
function idsIn({ after, upTo }: IdRange): Document {
  return {
    ...(after === undefined ? { $gte: '' } : { $gt: after }),
    ...(upTo !== undefined && { $lte: upTo }),
  }
}

/** A condition that only the document of this line meets, as long as nobody changes it. */
function exactly(line: string): Document {
  const { _id, ...fields } = EJSON.parse(line, { relaxed: false }) as Document
  const same = Object.entries(fields)
    // No query can name these; the others tell a changed document.
    .filter(([name]) => name !== '' && !name.startsWith('$') && !name.includes('.'))
    .map(([name, value]) => ({ [name]: { $eq: value } }))
  return { _id, 'dualstore.seq': { $exists: false }, ...(same.length > 0 && { $and: same }) }
}

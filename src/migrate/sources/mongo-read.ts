import { BSON, type Collection, type Document, type FindOptions } from 'mongodb'
import type { SourceBatch, SourceDocument, SourceDocuments } from './contract.js'

const { EJSON, ObjectId } = BSON

/** Documents in one answer of the server, which is never larger than 16 MiB. */
export const BATCH = 1000

/**
 * Arrays under names that every object inherits, such as `constructor`, are left undecoded with the driver's own
 * default for `fieldsAsRaw`. Patterns stay BSON's, because not each of them is one of JavaScript.
 */
const DECODING = { bsonRegExp: true, fieldsAsRaw: Object.create(null) as Document }

export interface ReadOptions {
  filter?: Document
  /** Canonical extended JSON of the `_id` to go on behind. */
  after?: string | null
  /** Documents in one batch. */
  size?: number | undefined
  signal: AbortSignal
}

/**
 * Documents by ascending `_id`, whatever types these have, through one cursor. Ends early, without a word, when the
 * signal comes.
 */
export async function* readBatches(
  collection: Collection,
  { filter = {}, after = null, size = BATCH, signal }: ReadOptions,
): AsyncGenerator<SourceBatch> {
  const options: FindOptions = { sort: { _id: 1 }, batchSize: size, raw: true }
  if (after !== null) {
    // A comparison would leave out every other type of `_id`; the bound of an index does not. It includes itself.
    options.min = { _id: EJSON.parse(after, { relaxed: false }) }
    options.hint = { _id: 1 }
  }
  const cursor = collection.find(filter, options)
  const stop = () => void cursor.close().catch(() => {})
  signal.addEventListener('abort', stop)
  try {
    while (!signal.aborted) {
      const first = await cursor.next()
      if (first === null) return
      // With it came the others of the same answer.
      const raw = [first, ...cursor.readBufferedDocuments()] as unknown as Uint8Array[]
      if (after !== null && decode(first as unknown as Uint8Array).sourceId === after) raw.shift()
      const last = raw.at(-1)
      if (last !== undefined) yield { documents: decoded(raw), checkpoint: decode(last).sourceId }
    }
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    signal.removeEventListener('abort', stop)
    await cursor.close().catch(() => {})
  }
}

/** Documents that are decoded when they are met. */
export function decoded(raw: readonly Uint8Array[]): SourceDocuments {
  return {
    length: raw.length,
    *[Symbol.iterator]() {
      for (const bytes of raw) yield decode(bytes)
    },
  }
}

/** A document from its BSON. One that is damaged says so, and does not end the reading of the others. */
export function decode(raw: Uint8Array): SourceDocument {
  try {
    return named(BSON.deserialize(raw, DECODING))
  } catch {
    return damaged(raw)
  }
}

function damaged(raw: Uint8Array): SourceDocument {
  const bytes = { bson: new BSON.Binary(raw.slice()) }
  try {
    const document = BSON.deserialize(raw, { ...DECODING, validation: { utf8: false } })
    const unreadable = 'the document holds text that is not UTF-8'
    return { ...named(document), document: { ...document, ...bytes }, unreadable }
  } catch {
    const unreadable = 'the document is not valid BSON'
    return { sourceId: EJSON.stringify(bytes, { relaxed: false }), document: bytes, unreadable }
  }
}

function named(document: Document): SourceDocument {
  return { sourceId: idText(document._id), document }
}

/** An `_id` as canonical extended JSON; the usual types without the detour over a general encoder. */
function idText(_id: unknown): string {
  if (_id instanceof ObjectId) return `{"$oid":"${_id.toHexString()}"}`
  if (typeof _id === 'string') return JSON.stringify(_id)
  return EJSON.stringify(_id, { relaxed: false })
}

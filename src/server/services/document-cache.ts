import { LRUCache } from 'lru-cache'
import type { StoredDocument } from '../store/documents.js'
import { etagOf } from './precondition.js'
import { successText } from './success.js'

/** A document ready to be answered. */
export interface CachedDocument {
  version: number
  etag: string
  /** The whole answer: `{"success": true, "data": …}`. */
  body: string
}

/** One reading of documents whose results may be kept. */
export interface Fill {
  /** Keeps what was read, unless the document has been written since the reading began. */
  keep(collection: string, document: StoredDocument): void
  /** Call it when the reading has ended, however it did. */
  end(): void
}

/**
 * Answers of single documents, bounded in bytes. This instance's own writes forget theirs before they are acknowledged
 * (I11), everybody else's when the log is read; nothing is found unless the log was read to its end within the last
 * second. So an answer is never older than this instance's last acknowledged write of the document, nor than a second.
 */
export interface DocumentCache {
  /** Undefined when it is not known, or when that may be too old. */
  find(collection: string, id: string): CachedDocument | undefined
  /** Call it before the statement is sent. */
  beginFill(): Fill
  /** What was read of it before now must not be answered any more. */
  forget(collection: string, id: string): void
  forgetAll(): void
  /** How it does: numbers since the start, and what it holds now. */
  readonly standing: CacheStanding
}

export interface CacheStanding {
  hits: number
  misses: number
  documents: number
  bytes: number
}

export interface DocumentCacheOptions {
  /** Of what is kept, counted in bytes of memory. */
  maxBytes: number
  /** Most documents; undefined: as many as there is room for. */
  maxDocuments?: number | undefined
  /** How long an answer is kept at most, in milliseconds. */
  ttlMs: number
  /** performance.now() of the moment up to which all changes have been told to `forget`. */
  currentAt(): number
  /** How long ago that may be, in milliseconds. */
  freshMs?: number
}

/** What an entry takes beside its texts: objects, the slots of the LRU's lists and its map. About what was measured. */
const ENTRY_BYTES = 400

export function createDocumentCache(options: DocumentCacheOptions): DocumentCache {
  const { maxBytes, maxDocuments, ttlMs, currentAt, freshMs = 1000 } = options
  const documents = new LRUCache<string, CachedDocument>({
    maxSize: maxBytes,
    // One document may be large, but not drive out most of the others.
    maxEntrySize: Math.ceil(maxBytes / 8),
    // The LRU makes its lists as long as this at once, so no longer than there is room for.
    ...(maxDocuments !== undefined && { max: Math.min(maxDocuments, Math.ceil(maxBytes / ENTRY_BYTES)) }),
    sizeCalculation: ({ body }, key) => ENTRY_BYTES + 2 * key.length + sizeOf(body),
    ttl: ttlMs,
    // Looks at the clock that often, and not with each document.
    ttlResolution: Math.min(1000, ttlMs / 10),
  })
  /** Of each reading under way, what has been written since it began. */
  const filling = new Set<Set<string>>()
  let hits = 0
  let misses = 0
  const isCurrent = () => performance.now() - currentAt() < freshMs

  return {
    find(collection, id) {
      const found = isCurrent() ? documents.get(keyOf(collection, id)) : undefined
      if (found === undefined) misses++
      else hits++
      return found
    },
    beginFill() {
      const written = new Set<string>()
      filling.add(written)
      return {
        keep(collection, { id, version, text }) {
          const key = keyOf(collection, id)
          if (!filling.has(written) || written.has(key)) return
          documents.set(key, { version, etag: etagOf(version), body: successText(text) })
        },
        end: () => void filling.delete(written),
      }
    },
    forget(collection, id) {
      const key = keyOf(collection, id)
      documents.delete(key)
      for (const written of filling) written.add(key)
    },
    forgetAll() {
      documents.clear()
      filling.clear()
    },
    get standing() {
      return { hits, misses, documents: documents.size, bytes: documents.calculatedSize }
    },
  }
}

// Neither PostgreSQL nor the router lets a NUL into a name.
const keyOf = (collection: string, id: string) => `${collection}\u0000${id}`

/** What V8 takes for a text: a byte for each character where all are Latin-1. Other texts are taken for wide ones. */
function sizeOf(text: string): number {
  return Buffer.byteLength(text) === text.length ? text.length : 2 * text.length
}

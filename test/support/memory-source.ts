import { EventEmitter, once } from 'node:events'
import { BSON } from 'mongodb'
import type { FollowedBatch, Source, SourceDocument } from '../../src/migrate/sources/contract.js'
import { compareIds, type LegacyDatabase } from './legacy-database.js'

export interface MemorySource extends Source {
  /** Writes more documents, for whoever follows. */
  append(collection: string, documents: readonly SourceDocument[]): void
  /** Called before each batch that is read; what it throws breaks the reading off. */
  beforeBatch: (collection: string, from: number) => void
}

/** A source that holds its documents in memory, in the order they are given; a checkpoint is a number of documents. */
export function memorySource(
  collections: Readonly<Record<string, readonly SourceDocument[]>>,
  { batch = 50, name = 'memory' } = {},
): MemorySource {
  const held = new Map(Object.entries(collections).map(([collection, all]) => [collection, [...all]]))
  const changed = new EventEmitter()
  const behind = (collection: string, from: number) => (held.get(collection) ?? []).slice(from, from + batch)
  const source: MemorySource = {
    kind: 'mongo',
    name,
    identity: name,
    beforeBatch: () => {},
    losses: async () => [],
    collections: async (names) =>
      names.flatMap((collection) => {
        const documents = held.get(collection)
        return documents === undefined ? [] : [{ collection, documents: documents.length }]
      }),
    mark: async (collection) => String(held.get(collection)?.length ?? 0),
    async *read(collection, checkpoint, signal) {
      for (let from = Number(checkpoint ?? 0); ; ) {
        source.beforeBatch(collection, from)
        signal.throwIfAborted()
        const documents = behind(collection, from)
        if (documents.length === 0) return
        from += documents.length
        yield { documents, checkpoint: String(from) }
      }
    },
    async *follow({ collections: asked, checkpoints, pollMs, signal }): AsyncGenerator<FollowedBatch> {
      const places = new Map(asked.map((collection) => [collection, Number(checkpoints.get(collection))]))
      while (!signal.aborted) {
        let given = 0
        for (const [collection, from] of places) {
          const documents = behind(collection, from)
          const to = from + documents.length
          given += documents.length
          places.set(collection, to)
          const left = (held.get(collection)?.length ?? 0) - to
          yield {
            collection,
            documents,
            checkpoint: String(to),
            behind: left,
            deleted: 0,
            upTo: left === 0 ? performance.now() : null,
          }
        }
        // That nothing is waiting any more is told before it is waited.
        const woken = AbortSignal.any([signal, AbortSignal.timeout(pollMs)])
        if (given === 0) await once(changed, 'append', { signal: woken }).catch(() => {})
      }
    },
    close: async () => {},
    append(collection, documents) {
      held.get(collection)?.push(...documents)
      changed.emit('append')
    },
  }
  return source
}

/** A generated database as MongoDB would give it: in the order of `_id`. */
export function legacyDocuments(legacy: LegacyDatabase): Record<string, SourceDocument[]> {
  const collections = legacy.collections.map((collection) => {
    const documents = [...legacy.documents(collection)].map(({ document }) => document)
    documents.sort((a, b) => compareIds(a._id, b._id))
    return [collection, documents.map(sourceDocument)] as const
  })
  return Object.fromEntries(collections)
}

export function sourceDocument(document: { _id: unknown; [field: string]: unknown }): SourceDocument {
  return { sourceId: BSON.EJSON.stringify(document._id, { relaxed: false }), document }
}

import { setTimeout as delay } from 'node:timers/promises'
import { invalid } from '../../server/errors.js'
import type { CollectionDefinition } from '../../server/schemas/collection.js'
import { shippedCollections } from '../../server/schemas/shipped-collections.js'
import type { FollowedBatch, Source, SourceCollection } from './contract.js'
import { fetchPage, type LegacyServer } from './http-client.js'
import { documentsOf, type ListedDocument } from './http-documents.js'
import { merge } from './merge.js'

export interface HttpSourceOptions {
  /** Of a running legacy server: http://127.0.0.1:3000 */
  url: string
  token?: string | undefined
}

interface ListBatch {
  documents: ListedDocument[]
  /** Where the next page begins. */
  offset: number
  total: number
}

/** Every version of the legacy server gives pages of this size. */
const PAGE = 100

/**
 * A running legacy server by its HTTP API. Not complete (legacy contract, section 9): `losses` says by how much.
 * @throws INVALID_REQUEST when the URL is none.
 */
export function openHttpSource({ url, token }: HttpSourceOptions): Source {
  const server = serverAt(url, token)

  /** The newest documents first, a page at a time. */
  async function* pages(
    definition: CollectionDefinition,
    from: number,
    signal?: AbortSignal,
  ): AsyncGenerator<ListBatch> {
    const met = new Set<string>()
    for (let offset = from; signal?.aborted !== true; ) {
      const page = await fetchPage(server, definition.name, { limit: PAGE, offset }, signal)
      if (page === undefined) return
      const listed = documentsOf(definition, page.items, offset)
      // Of a document that moved to this page meanwhile once is enough; a page of none but such ends the list.
      const documents = listed.filter(({ sourceId }) => !met.has(sourceId))
      for (const { sourceId } of documents) met.add(sourceId)
      offset += page.items.length
      if (documents.length > 0) yield { documents, offset, total: page.total }
      if (documents.length === 0 || !page.hasMore) return
    }
  }

  async function* read(definition: CollectionDefinition, from: number, signal: AbortSignal) {
    try {
      for await (const { documents, offset } of pages(definition, from, signal)) {
        yield { documents, checkpoint: JSON.stringify({ offset }) }
      }
    } catch (error) {
      if (!signal.aborted) throw error
    }
  }

  async function* followOne(
    definition: CollectionDefinition,
    pollMs: number,
    signal: AbortSignal,
  ): AsyncGenerator<FollowedBatch> {
    // No more than a list shows, which is a thousand.
    let given = new Set<string>()
    const told = { collection: definition.name, checkpoint: FROM_NOW, behind: 0, deleted: 0, upTo: null }
    while (!signal.aborted) {
      const seen = new Set<string>()
      const began = performance.now()
      for await (const { documents } of read(definition, 0, signal)) {
        const fresh = documents.filter(({ sourceId }) => !given.has(sourceId))
        for (const { sourceId } of documents) seen.add(sourceId)
        if (fresh.length > 0) yield { ...told, documents: fresh }
        // Newest first: nothing new is behind a page that holds something old.
        if (fresh.length < documents.length) break
      }
      given = new Set([...given, ...seen].slice(-MOST))
      if (signal.aborted) return
      yield { ...told, documents: [], upTo: began }
      await delay(pollMs, undefined, { signal }).catch(() => {})
    }
  }

  return {
    kind: 'http',
    name: server.name,
    identity: `http ${server.name.toLowerCase()}`,

    async losses() {
      const sentences: string[] = []
      for (const definition of shippedCollections) {
        const batches: ListBatch[] = []
        for await (const batch of pages(definition, 0)) batches.push(batch)
        sentences.push(...lossesOf(definition.name, batches))
      }
      return sentences
    },

    async collections(names) {
      const found: SourceCollection[] = []
      for (const collection of names) {
        if (definitionOf(collection) === undefined) continue
        const page = await fetchPage(server, collection, { limit: 1, offset: 0 })
        if (page !== undefined) found.push({ collection, documents: page.total })
      }
      return found
    },

    mark: async () => FROM_NOW,

    read(collection, checkpoint, signal) {
      const { offset } = JSON.parse(checkpoint ?? '{"offset":0}') as { offset: number }
      return read(knownDefinition(collection), offset, signal)
    },

    follow: ({ collections, pollMs, signal }) =>
      merge(collections.map((collection) => followOne(knownDefinition(collection), pollMs, signal))),

    close: async () => {},
  }
}

/** A list has no place to go on from: following begins with all that it shows, which is recognised. */
const FROM_NOW = JSON.stringify({ follow: 'list' })
/** Names of documents that are remembered while following: more than twice of what a list shows. */
const MOST = 2500

function lossesOf(collection: string, batches: readonly ListBatch[]): string[] {
  const documents = batches.flatMap((batch) => batch.documents)
  if (documents.length === 0) return []
  const total = Math.max(...batches.map((batch) => batch.total))
  const emptied = documents.filter((document) => document.emptied.length > 0)
  const fields = [...new Set(emptied.flatMap((document) => document.emptied))]
  const sentences = [
    `${collection}: ${documents.length} of ${total} listed documents can be read. A legacy server lists its newest 1000 at most (events: 100 in one version) and counts no others, so older documents are left behind`,
    `${collection}: ${documents.length} documents get an id made of their content, the same in every run, because the server makes up ids for each request`,
  ]
  if (emptied.length > 0) {
    sentences.push(
      `${collection}: ${emptied.length} of ${documents.length} documents have nothing in ${fields.join(', ')}, which the server empties in its answers`,
    )
  }
  return sentences
}

function definitionOf(collection: string): CollectionDefinition | undefined {
  return shippedCollections.find(({ name }) => name === collection)
}

function knownDefinition(collection: string): CollectionDefinition {
  const definition = definitionOf(collection)
  if (definition === undefined)
    throw invalid('collections', `a legacy server has no collection ${collection}`)
  return definition
}

function serverAt(url: string, token: string | undefined): LegacyServer {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (parsed === undefined || !['http:', 'https:'].includes(parsed.protocol)) {
    throw invalid('url', 'must be the address of a legacy server, such as http://127.0.0.1:3000')
  }
  const name = `${parsed.origin}${parsed.pathname}`.replace(/\/+$/, '')
  if (parsed.username !== '' || parsed.password !== '') {
    throw invalid('url', 'must be without user and password: a legacy server takes a token')
  }
  return { url: name, name, token }
}

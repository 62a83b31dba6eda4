import type { Hints } from '../changes/hints.js'
import { CHANGES_CHANNEL } from '../changes/hints.js'
import { readHead } from '../changes/read.js'
import type { Pool } from '../db/pool.js'
import { DualstoreError, invalid } from '../errors.js'
import type { Write } from '../store/documents.js'
import type { Consistency, ConsistencyLevel } from './consistency.js'
import type { CachedDocument, DocumentCache } from './document-cache.js'
import type { Fallback, ReadOptions, Source } from './fallback.js'
import type { Written } from './gatherer.js'
import { requireId } from './ids.js'
import { type Create, createOf, requireObject, writeOf } from './item-writes.js'
import { applyPatch, type Patch } from './patch.js'
import { type Precondition, versionToMatch } from './precondition.js'
import { type Access, isRestricted, type Principal } from './principal.js'
import type { Reader } from './reader.js'
import type { Collection, Registry } from './registry.js'
import { requireScope } from './rights.js'
import { sees, seesText } from './rows.js'
import { attempt, refused } from './settled.js'
import { createTurns } from './turns.js'
import type { Writer } from './writer.js'

/** Which document. */
export interface DocumentPlace {
  collection: string
  id: string
}

/** A document as it is answered: its item stays JSON text all the way (I13). */
export interface DocumentAnswer {
  id: string
  version: number
  /** The item as JSON text. */
  text: string
}

export interface WriteAnswer extends DocumentAnswer {
  created: boolean
  /** The text for x-dualstore-position; null when nothing was written. */
  position: string | null
}

export interface WriteOptions {
  consistency?: ConsistencyLevel | undefined
  precondition?: Precondition | undefined
}

export interface CreateOptions extends Pick<WriteOptions, 'consistency'> {
  /** Repeating the request with the same key and body repeats nothing and is answered the same. */
  idempotencyKey?: string | undefined
}

export interface DocumentServiceOptions {
  pool: Pool
  registry: Registry
  reader: Reader
  writer: Writer
  /** undefined: nothing is remembered. */
  cache?: DocumentCache | undefined
  hints: Hints
  consistency: Consistency
  fallback: Fallback
  now?: () => number
}

/** Single documents: the same rules for HTTP, the CLI and batches. */
export type DocumentService = ReturnType<typeof createDocumentService>

/** A patch without If-Match is tried again when somebody else was faster, this many times. */
const PATCH_ATTEMPTS = 20

export function createDocumentService(options: DocumentServiceOptions) {
  const { pool, registry, reader, writer, cache, hints, consistency, fallback } = options
  const now = options.now ?? Date.now
  // Patches of one document wait for each other here instead of overtaking each other in PostgreSQL.
  const turns = createTurns()

  /** Writes as the caller may, and wakes whoever follows. */
  const write = async (
    access: Access,
    one: Write,
    requested: ConsistencyLevel | undefined,
  ): Promise<Written> => {
    consistency.beforeWrite(consistency.level(requested))
    const written = await writer.write(access, one)
    if (written.position !== null) hints.tell(CHANGES_CHANNEL)
    return written
  }

  /** Waits for the mirror when that was asked for. */
  const settle = async (
    one: Write,
    written: Written,
    requested: ConsistencyLevel | undefined,
  ): Promise<void> => {
    const level = consistency.level(requested)
    if (level === 'eventual') return
    // The request that wrote what is replayed may be the one that timed out waiting.
    const replayed = written.outcome === 'replayed'
    const id = replayed ? idOf(written.text) : one.id
    const position = replayed ? (await readHead(pool)).position : written.position
    await consistency.afterWrite(level, position, { collection: one.collection, id })
  }

  /** Does what is still to be done once PostgreSQL has taken a write. */
  const finish = async (
    one: Write,
    written: Written,
    requested: ConsistencyLevel | undefined,
  ): Promise<Written> => {
    await settle(one, written, requested)
    // What was written then is visible at the log's end, wherever that was.
    if (written.outcome === 'replayed') return { ...written, position: (await readHead(pool)).position }
    return written
  }

  const commit = async (
    access: Access,
    one: Write,
    requested: ConsistencyLevel | undefined,
  ): Promise<Written> => finish(one, await write(access, one, requested), requested)

  const answer = (write: Write, written: Written): WriteAnswer => {
    const position = written.position === null ? null : consistency.format(written.position)
    switch (written.outcome) {
      case 'created':
      case 'replaced':
        return {
          id: write.id,
          version: written.version,
          text: written.text ?? write.text,
          created: written.outcome === 'created',
          position,
        }
      case 'replayed':
        return { id: idOf(written.text), version: 1, text: written.text, created: true, position }
      case 'key_reused':
        throw new DualstoreError(
          'IDEMPOTENCY_KEY_REUSED',
          'this Idempotency-Key was used before with another body; use a new key for a new request',
        )
      case 'exists':
        throw new DualstoreError('ALREADY_EXISTS', `the id "${write.id}" is taken in ${write.collection}`)
      case 'version_mismatch':
        throw preconditionFailed(`the document has version ${written.version}`)
      default:
        throw new DualstoreError('INTERNAL', `unexpected outcome ${written.outcome}`)
    }
  }

  /** The scope is checked first: whether a collection exists is told to nobody who may not use it. */
  const collectionFor = (access: Access, action: keyof Principal['scopes'], name: string) => {
    requireScope(access.principal, action, name)
    return registry.get(name)
  }

  /** The document, unless there is none that the caller may see. */
  const stored = async ({ principal }: Access, collection: Collection, id: string) => {
    const document = await reader.read(collection.definition.name, id)
    return document !== undefined && seesText(principal, document.text) ? document : undefined
  }

  const find = async (access: Access, collection: Collection, id: string): Promise<DocumentAnswer> => {
    const document = await stored(access, collection, id)
    if (document === undefined) throw notFound(collection, id)
    return document
  }

  return {
    requireRoom: writer.requireRoom,

    /** @throws FORBIDDEN, COLLECTION_NOT_FOUND */
    async requireWritable(access: Access, name: string): Promise<void> {
      await collectionFor(access, 'write', name)
    },

    /** Creates a document. An `id` in the body is used when it is valid and free; times are the server's. */
    async create(
      access: Access,
      name: string,
      body: unknown,
      given: CreateOptions = {},
    ): Promise<WriteAnswer> {
      const collection = await collectionFor(access, 'write', name)
      const create = { item: body, idempotencyKey: given.idempotencyKey }
      const write = createOf(access.principal, collection, create, now())
      return answer(write, await commit(access, write, given.consistency))
    },

    /**
     * Creates documents of one collection, each as `create` would: in their order, with an outcome each. No promise
     * stands for a single document that nothing is to be waited for: it would cost more than the document.
     * @throws FORBIDDEN, COLLECTION_NOT_FOUND
     */
    async createAll(
      access: Access,
      name: string,
      creates: readonly Create[],
      requested: ConsistencyLevel | undefined,
    ): Promise<PromiseSettledResult<WriteAnswer>[]> {
      const collection = await collectionFor(access, 'write', name)
      const level = consistency.level(requested)
      const at = now()
      const prepared = creates.map((create) =>
        attempt(() => {
          const write = createOf(access.principal, collection, create, at)
          consistency.beforeWrite(level)
          return write
        }),
      )
      const writes = prepared.flatMap((one) => (one.status === 'fulfilled' ? one.value : []))
      const results = await writer.writeAll(access, writes)
      if (results.some((one) => one.status === 'fulfilled' && one.value.position !== null)) {
        hints.tell(CHANGES_CHANNEL)
      }
      const answered = (write: Write, written: Written) => {
        if (level === 'eventual' && written.outcome !== 'replayed')
          return attempt(() => answer(write, written))
        return finish(write, written, level).then((all) => attempt(() => answer(write, all)), refused)
      }
      let place = 0
      return Promise.all(
        prepared.map((one) => {
          if (one.status === 'rejected') return one
          const result = results[place++] as PromiseSettledResult<Written>
          return result.status === 'rejected' ? result : answered(one.value, result.value)
        }),
      )
    },

    /**
     * The document as it is remembered here, if it is: an answer that needs neither store and no waiting. Only for a
     * caller that leaves open which store answers.
     * @throws FORBIDDEN
     */
    recall({ principal }: Access, { collection, id }: DocumentPlace): CachedDocument | undefined {
      requireScope(principal, 'read', collection)
      // Rows are for who looks into the item; and a collection that was dropped holds nothing.
      if (cache === undefined || isRestricted(principal) || registry.find(collection) === undefined) return
      return cache.find(collection, id)
    },

    /**
     * The document, from PostgreSQL or, when asked or while PostgreSQL is away, from the mirror. One that the mirror
     * lacks while PostgreSQL is away may exist all the same.
     * @throws NOT_FOUND, STORE_UNAVAILABLE, MIRROR_UNAVAILABLE
     */
    async get(
      access: Access,
      { collection: name, id }: DocumentPlace,
      read: ReadOptions = {},
    ): Promise<DocumentAnswer & Source> {
      const collection = await collectionFor(access, 'read', name)
      requireId(id, 'params.id')
      if (read.waitFor !== undefined) await consistency.waitFor(read.waitFor, read.from ?? 'postgres')
      const { answer, ...source } = await fallback.read(read, {
        postgres: () => find(access, collection, id),
        async mirror(mirror) {
          const found = await mirror.get(collection.definition, id)
          if (found === undefined || !sees(access.principal, found.item)) throw notFound(collection, id)
          return { id, version: found.version, text: JSON.stringify(found.item) }
        },
      })
      return { ...answer, ...source }
    },

    /** Creates or replaces the document with this id. */
    async put(
      access: Access,
      { collection: name, id }: DocumentPlace,
      body: unknown,
      given: WriteOptions = {},
    ): Promise<WriteAnswer> {
      const collection = await collectionFor(access, 'write', name)
      const fields = requireObject(body, 'body')
      requireId(id, 'params.id')
      if (fields.id !== undefined && fields.id !== id)
        throw invalid('body.id', `must be "${id}", as in the path`)
      const { precondition } = given
      const write = writeOf('put', collection, { id, fields, at: now() })
      if (precondition?.ifNoneMatch === '*') write.mode = 'create'
      else if (precondition?.ifMatch !== undefined) {
        write.mode = 'replace'
        write.ifVersion = await versionToMatch(precondition.ifMatch, () => stored(access, collection, id))
      }
      const written = await commit(access, write, given.consistency)
      if (written.outcome === 'missing') throw preconditionFailed('the document does not exist')
      if (written.outcome === 'exists' && write.mode === 'create') {
        // No version: it may be a document that the caller must not see.
        const { version } = written
        throw preconditionFailed(version > 0 ? `the document has version ${version}` : 'the id is taken')
      }
      return answer(write, written)
    },

    /** Changes parts of a document, by merge patch or JSON patch, on exactly the version it read. */
    async patch(
      access: Access,
      { collection: name, id }: DocumentPlace,
      patch: Patch,
      given: WriteOptions = {},
    ): Promise<WriteAnswer> {
      // The answer, and the tests of a JSON patch, tell what the rest of the document holds.
      requireScope(access.principal, 'read', name)
      const collection = await collectionFor(access, 'write', name)
      requireId(id, 'params.id')
      const { ifMatch, ifNoneMatch } = given.precondition ?? {}
      const attempts = async () => {
        for (let attempt = 1; ; attempt++) {
          const current = await find(access, collection, id)
          if (ifNoneMatch === '*') throw preconditionFailed(`the document has version ${current.version}`)
          if (ifMatch !== undefined && ifMatch !== '*' && !ifMatch.includes(current.version)) {
            throw preconditionFailed(`the document has version ${current.version}`)
          }
          const patched = requireObject(applyPatch(JSON.parse(current.text), patch), 'the patched document')
          if (patched.id !== id) throw invalid('body.id', 'cannot be changed', 'INVALID_PATCH')
          const change = writeOf('replace', collection, { id, fields: patched, at: now() })
          change.ifVersion = current.version
          const written = await write(access, change, given.consistency)
          if (written.outcome === 'missing') throw notFound(collection, id)
          // Looked at again: only then is it known whether If-Match still holds, and whether it may be told why not.
          if (written.outcome !== 'version_mismatch') return { change, written }
          if (attempt >= PATCH_ATTEMPTS) {
            throw new DualstoreError('CONFLICT', 'the document is changed too often by others; try again')
          }
        }
      }
      const { change, written } = await turns.take(`${collection.definition.name}\u0000${id}`, attempts)
      // Outside the turn: others need not wait for the mirror.
      await settle(change, written, given.consistency)
      return answer(change, written)
    },

    /** Deletes a document. @throws NOT_FOUND, or PRECONDITION_FAILED when it has another version. */
    async remove(
      access: Access,
      { collection: name, id }: DocumentPlace,
      given: WriteOptions = {},
    ): Promise<{ id: string; position: string | null }> {
      const collection = await collectionFor(access, 'write', name)
      requireId(id, 'params.id')
      const { ifMatch, ifNoneMatch } = given.precondition ?? {}
      if (ifNoneMatch === '*') {
        throw preconditionFailed(`the document has version ${(await find(access, collection, id)).version}`)
      }
      const ifVersion =
        ifMatch === undefined ? null : await versionToMatch(ifMatch, () => find(access, collection, id))
      const write: Write = {
        mode: 'delete',
        collection: collection.definition.name,
        id,
        text: 'null',
        ifVersion,
        createdAt: 0,
        updatedAt: 0,
        idempotency: null,
      }
      const written = await commit(access, write, given.consistency)
      if (written.outcome === 'missing') throw notFound(collection, id)
      if (written.outcome === 'version_mismatch') {
        throw preconditionFailed(`the document has version ${written.version}`)
      }
      return { id, position: written.position === null ? null : consistency.format(written.position) }
    },
  }
}

function notFound(collection: Collection, id: string): DualstoreError {
  return new DualstoreError('NOT_FOUND', `${collection.definition.name} has no document "${id}"`, {
    error: `${collection.definition.label} not found`,
  })
}

function preconditionFailed(reason: string): DualstoreError {
  return new DualstoreError('PRECONDITION_FAILED', reason)
}

function idOf(text: string): string {
  return (JSON.parse(text) as { id: string }).id
}

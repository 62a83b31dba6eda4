import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises'
import { BSON, type ChangeStream, type Collection, type Document, MongoServerError } from 'mongodb'
import type { FollowedBatch, SourceDocument } from './contract.js'
import { BATCH, readBatches } from './mongo-read.js'

const { EJSON, ObjectId, Timestamp } = BSON

/** From where a collection is followed. */
type Place =
  /** By change stream, from a time of the server's. */
  | { from: BSON.Timestamp }
  /** By change stream, behind an event. */
  | { behind: Document }
  /** By looking for newer ObjectIds, made since this time, epoch milliseconds by the server's clock. */
  | { since: number }
  /** By reading everything behind this `_id` first, and then from another place. */
  | { after: string | null; next: Place }

export interface Following {
  collection: Collection
  pollMs: number
  /** False: looks at the source again and again even where it has change streams. */
  changeStreams: boolean
  signal: AbortSignal
  log?: { warn(fields: object, message: string): void } | undefined
}

type Followed = Omit<FollowedBatch, 'collection'>

/**
 * Clocks of programs that make ObjectIds may be this far apart, and a document may take this long to be seen, without
 * being missed by looking.
 */
const OVERLAP_MS = 120_000
/** ObjectIds tell their time; documents with other ids are all read at every so many looks. */
const LOOKS_BETWEEN_OTHERS = 10
/** Not those that dualstore wrote, where source and mirror are one database. */
export const FOREIGN = { 'dualstore.seq': { $exists: false } }
const LAST_OBJECT_ID = new ObjectId('f'.repeat(24))

/** Errors after which a change stream cannot be gone on with: what happened meanwhile is not known. */
const LOST: ReadonlySet<number> = new Set([
  9, // FailedToParse: a token of another server
  222, // CloseChangeStream
  260, // InvalidResumeToken
  280, // ChangeStreamFatalError
  286, // ChangeStreamHistoryLost
  40615, // the collection of the token is another one now
  50811, // the token is of another stream
])

/** The place from which following misses nothing that is written from now on. */
export async function placeNow(following: Omit<Following, 'pollMs'>): Promise<string> {
  return textOf(await now(following))
}

async function now({ collection, changeStreams, log }: Omit<Following, 'pollMs'>): Promise<Place> {
  const { localTime, operationTime } = await collection.db.command({ hello: 1 })
  if (changeStreams && operationTime instanceof Timestamp) {
    const stream = collection.watch([], { startAtOperationTime: operationTime, maxAwaitTimeMS: 1 })
    try {
      await stream.tryNext()
      return { from: operationTime }
    } catch (error) {
      if (!(error instanceof MongoServerError)) throw error
      log?.warn({ err: error, collection: collection.collectionName }, 'the source gives no change stream')
    } finally {
      await stream.close()
    }
  }
  return { since: (localTime as Date).getTime() }
}

/** What is written to a collection from a place on, until the signal comes. */
export async function* followCollection(following: Following, checkpoint: string): AsyncGenerator<Followed> {
  const { collection, signal, log } = following
  let place: Place = placeOf(checkpoint) ?? { after: null, next: await now(following) }
  while (!signal.aborted) {
    if ('after' in place) {
      const { next } = place
      for await (const batch of readBatches(collection, { filter: FOREIGN, after: place.after, signal })) {
        // How much of it is left is not known, but some may be.
        yield {
          ...batch,
          checkpoint: textOf({ after: batch.checkpoint, next }),
          behind: 1,
          deleted: 0,
          upTo: null,
        }
      }
      if (signal.aborted) return
      place = next
    }
    if ('since' in place) yield* look(following, place.since)
    else if (!('after' in place)) {
      try {
        yield* listen(following, place)
      } catch (error) {
        if (!(error instanceof MongoServerError) || !LOST.has(Number(error.code))) throw error
        log?.warn(
          { err: error, collection: collection.collectionName },
          'the source no longer tells what happened since it was last followed: all of it is read again',
        )
        place = { after: null, next: await now(following) }
      }
    }
  }
}

interface Event {
  _id: Document
  operationType: string
  documentKey?: { _id: unknown }
}

/** By change stream. It says which documents changed; they are read as they are now, as everything is read. */
async function* listen(
  { collection, pollMs, signal, log }: Following,
  place: { from: BSON.Timestamp } | { behind: Document },
): AsyncGenerator<Followed> {
  const start = 'from' in place ? { startAtOperationTime: place.from } : { startAfter: place.behind }
  const stream: ChangeStream = collection.watch([{ $project: { operationType: 1, documentKey: 1 } }], {
    ...start,
    maxAwaitTimeMS: pollMs,
    batchSize: BATCH,
  })
  const stop = () => void stream.close().catch(() => {})
  signal.addEventListener('abort', stop)
  try {
    let began = performance.now()
    let next = nextOf(stream)
    while (!signal.aborted) {
      const events: Event[] = []
      const upTo = began
      let event = await next
      while (event !== null) {
        events.push(event)
        began = performance.now()
        next = nextOf(stream)
        if (events.length === BATCH) break
        // What came in the same answer is there at once.
        event = await Promise.race([next, nextTurn(null)])
      }
      if (events.length === 0) {
        began = performance.now()
        next = nextOf(stream)
      }
      if (signal.aborted) return
      const last = events.at(-1)
      const token = last?._id ?? (stream.resumeToken as Document)
      const { documents, deleted } = await documentsOf(collection, events, signal)
      if (signal.aborted) return
      const behind = events.length === BATCH ? 1 : 0
      // An answer that is not full holds all there was when it was asked for.
      yield {
        documents,
        checkpoint: textOf({ behind: token }),
        behind,
        deleted,
        upTo: behind === 0 ? upTo : null,
      }
      if (last?.operationType !== 'invalidate') continue
      log?.warn(
        { collection: collection.collectionName },
        'the collection was dropped or renamed in the source',
      )
      return yield* listen({ collection, pollMs, changeStreams: true, signal, log }, { behind: token })
    }
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    signal.removeEventListener('abort', stop)
    await stream.close().catch(() => {})
  }
}

function nextOf(stream: ChangeStream): Promise<Event | null> {
  const next = stream.tryNext() as Promise<Event | null>
  // It is looked at later, or not at all any more.
  next.catch(() => {})
  return next
}

async function documentsOf(
  collection: Collection,
  events: readonly Event[],
  signal: AbortSignal,
): Promise<{ documents: SourceDocument[]; deleted: number }> {
  const written = events.filter(({ operationType }) =>
    ['insert', 'update', 'replace'].includes(operationType),
  )
  const ids = written.map(({ documentKey }) => documentKey?._id)
  const documents: SourceDocument[] = []
  if (ids.length > 0) {
    const filter = { _id: { $in: ids }, ...FOREIGN } as Document
    for await (const batch of readBatches(collection, { filter, signal })) documents.push(...batch.documents)
  }
  return { documents, deleted: events.filter(({ operationType }) => operationType === 'delete').length }
}

/** By looking again and again. What is changed in place is not seen, and what has an id of its own only now and then. */
async function* look({ collection, pollMs, signal }: Following, from: number): AsyncGenerator<Followed> {
  /** When ids were made that were given lately, so that they are not given again. */
  const given = new Map<string, number>()
  let since = from
  /** When the last look began that saw documents with other ids too. */
  let upTo: number | null = null
  for (let looks = 0; !signal.aborted; looks++) {
    const began = performance.now()
    const { localTime } = await collection.db.command({ hello: 1 })
    const first = ObjectId.createFromTime(Math.max(0, Math.floor((since - OVERLAP_MS) / 1000)))
    const filters: Document[] = [{ _id: { $gte: first, $lte: LAST_OBJECT_ID } }]
    const all = looks % LOOKS_BETWEEN_OTHERS === 0
    if (all) filters.push({ _id: { $not: { $type: 'objectId' } } })
    for (const filter of filters) {
      for await (const batch of readBatches(collection, { filter: { ...filter, ...FOREIGN }, signal })) {
        const documents = [...batch.documents].filter(({ sourceId }) => !given.has(sourceId))
        for (const { sourceId, document } of documents) {
          if (document._id instanceof ObjectId) given.set(sourceId, document._id.getTimestamp().getTime())
        }
        const behind = batch.documents.length >= BATCH ? 1 : 0
        if (documents.length > 0)
          yield { documents, checkpoint: textOf({ since }), behind, deleted: 0, upTo: null }
      }
    }
    if (signal.aborted) return
    since = (localTime as Date).getTime()
    for (const [id, made] of given) if (made < since - OVERLAP_MS) given.delete(id)
    if (all) upTo = began
    yield { documents: [], checkpoint: textOf({ since }), behind: 0, deleted: 0, upTo }
    await delay(pollMs, undefined, { signal }).catch(() => {})
  }
}

function textOf(place: Place): string {
  return EJSON.stringify(place, { relaxed: false })
}

/** Undefined for a text that is no place, such as none at all. */
function placeOf(checkpoint: string): Place | undefined {
  try {
    const place = EJSON.parse(checkpoint) as Place
    return typeof place === 'object' && place !== null ? place : undefined
  } catch {
    return undefined
  }
}

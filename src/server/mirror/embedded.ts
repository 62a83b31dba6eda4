import { type BatchOperation, ClassicLevel } from 'classic-level'
import { DualstoreError } from '../errors.js'
import type { CollectionDefinition } from '../schemas/collection.js'
import type {
  IdRange,
  LegacyDocument,
  Mark,
  Mirror,
  MirrorChange,
  RawDocument,
  Rejection,
} from './contract.js'
import { fromLegacy, shaped } from './legacy-shape.js'

export interface EmbeddedMirrorOptions {
  /** Where LevelDB keeps its files; made when missing. */
  directory: string
}

const BATCH = 500
// LevelDB maps the files it has open into memory, each as a whole once a scan has gone through it: the fewest it takes,
// and small ones, so that a scan of everything does not take as much memory as everything.
const OPEN_FILES = 74
const FILE_BYTES = 1024 * 1024
/** Documents read in one go, fewer when they are large. */
const PAGE = 50
const PAGE_BYTES = 64 * 1024

type Database = ClassicLevel<string, string>

/**
 * A mirror in LevelDB beside the program, for when there is no MongoDB. It holds the same documents in constant
 * memory and keeps every acknowledged write through a crash. One process at a time may have it open: LevelDB's own
 * lock sees to that, so there is one leader (I5) whatever the leases say.
 *
 * A deleted document leaves no position behind. Within one leader positions only move forward, and a leader that
 * starts again behind a delete meets it again, so what an older change brings back is gone at the end (I4).
 */
export function openEmbeddedMirror({ directory }: EmbeddedMirrorOptions): Mirror {
  let opening: Promise<Database> | undefined
  let closing: Promise<void> | undefined
  let writing: Promise<unknown> = Promise.resolve()

  /** Opened on first use. A failed attempt is forgotten: the process that held the lock may be gone by the next. */
  async function database(): Promise<Database> {
    if (closing !== undefined) throw unavailable('the embedded mirror is closed')
    opening ??= open(directory)
    const attempt = opening
    try {
      return await attempt
    } catch (error) {
      if (opening === attempt) opening = undefined
      throw error
    }
  }

  async function request<T>(work: (db: Database) => Promise<T>): Promise<T> {
    const db = await database()
    try {
      return await work(db)
    } catch (error) {
      throw levelError(error, directory)
    }
  }

  /** Reading a position and writing behind it is one step, so writes go one after the other. */
  function exclusive<T>(work: (db: Database) => Promise<T>): Promise<T> {
    const turn = writing.then(() => request(work))
    writing = turn.catch(async () => {
      // After a failed write LevelDB refuses all further ones until it is opened again.
      const failed = opening
      opening = undefined
      await failed?.then((db) => db.close()).catch(() => {})
    })
    return turn
  }

  return {
    kind: 'embedded',

    // Collections are ranges of keys, and nobody but dualstore reads them.
    prepare: () => request(async () => {}),

    apply: (changes) =>
      exclusive(async (db) => {
        const rejections: Rejection[] = []
        for (let from = 0; from < changes.length; from += BATCH) {
          rejections.push(...(await applyBatch(db, changes.slice(from, from + BATCH))))
        }
        return rejections
      }),

    get: (definition, id) =>
      request(async (db) => {
        const text = await db.get(keyOf(definition, id))
        const document = text === undefined ? undefined : (JSON.parse(text) as LegacyDocument)
        return document?.dualstore === undefined ? undefined : fromLegacy(definition, document)
      }),

    async *scan(definition, after) {
      for await (const document of documents(definition, after)) yield fromLegacy(definition, document)
    },

    async *marks(definition, after) {
      for await (const { id, dualstore } of documents(definition, after)) yield { id, seq: dualstore.seq }
    },

    marksAhead: (definition, { first, last }, seq) =>
      request(async (db) => {
        const ahead: Mark[] = []
        for await (const text of db.values({ gte: keyOf(definition, first), lte: keyOf(definition, last) })) {
          const { id, dualstore } = JSON.parse(text) as LegacyDocument
          if (dualstore.seq > seq) ahead.push({ id, seq: dualstore.seq })
        }
        return ahead
      }),

    recent: (definition, limit) =>
      request(async (db) => {
        let newest: LegacyDocument[] = []
        for await (const text of db.values(rangeOf(definition))) {
          const document = JSON.parse(text) as LegacyDocument
          const last = newest[limit - 1]
          if (last !== undefined && document.timestamp <= last.timestamp) continue
          newest = [...newest, document].sort(byTimestamp).slice(0, limit)
        }
        return newest
      }),

    count: (definition) =>
      request(async (db) => {
        const keys = db.keys(rangeOf(definition))
        try {
          let count = 0
          for (;;) {
            const some = await keys.nextv(BATCH)
            if (some.length === 0) return count
            count += some.length
          }
        } finally {
          await keys.close()
        }
      }),

    drop: (definition) => exclusive((db) => db.clear(rangeOf(definition))),

    async *raw(definition, range) {
      for await (const page of texts(definition, range)) {
        yield page.map((text) => {
          const document = JSON.parse(text) as RawDocument
          return { id: String(document._id), document }
        })
      }
    },

    rawMany: (definition, ids) =>
      request(async (db) => {
        const found = await db.getMany(ids.map((id) => keyOf(definition, id)))
        return new Map(
          ids.flatMap((id, index): [string, RawDocument][] => {
            const text = found[index]
            return text === undefined ? [] : [[id, JSON.parse(text) as RawDocument]]
          }),
        )
      }),

    forgetPosition: (definition, id, seq) =>
      exclusive(async (db) => {
        const text = await db.get(keyOf(definition, id))
        const document = text === undefined ? undefined : (JSON.parse(text) as LegacyDocument)
        if (document?.dualstore?.seq !== seq) return
        const value = JSON.stringify({ ...document, dualstore: { ...document?.dualstore, seq: -1 } })
        await db.put(keyOf(definition, id), value, { sync: true })
      }),

    // Other programs do not write here; what has no position all the same is nothing that dualstore wrote.
    async *foreign(definition) {
      for await (const page of texts(definition, { after: undefined, upTo: undefined })) {
        for (const text of page) {
          // Text in a document has its quotes escaped, so this is a member: a whole parse of everything is saved.
          if (text.includes('"dualstore":{"seq":')) continue
          const document = JSON.parse(text) as LegacyDocument
          if (document.dualstore?.seq === undefined) yield { id: document._id, line: text }
        }
      }
    },

    removeForeign: (definition, lines) =>
      exclusive(async (db) => {
        const keys = lines.map((line) => keyOf(definition, (JSON.parse(line) as LegacyDocument)._id))
        const standing = await db.getMany(keys)
        const batch = keys
          .filter((_, index) => standing[index] === lines[index])
          .map((key) => ({ type: 'del' as const, key }))
        await db.batch(batch, { sync: true })
        return batch.length
      }),

    ping: () => request(async () => {}),

    examine: () => request(async () => ({ clock: Date.now(), missingIndexes: [] })),

    close: () => {
      closing ??= writing.then(async () => {
        await opening?.then((db) => db.close()).catch(() => {})
      })
      return closing
    },
  }

  async function* documents(
    definition: CollectionDefinition,
    after: string | undefined,
  ): AsyncGenerator<LegacyDocument> {
    for await (const page of texts(definition, { after, upTo: undefined })) {
      for (const text of page) {
        const document = JSON.parse(text) as LegacyDocument
        if (document.dualstore !== undefined) yield document
      }
    }
  }

  async function* texts(
    definition: CollectionDefinition,
    { after, upTo }: IdRange,
  ): AsyncGenerator<string[]> {
    const { gte, lt } = rangeOf(definition)
    const values = await request(async (db) =>
      db.values({
        ...(after === undefined ? { gte } : { gt: keyOf(definition, after) }),
        ...(upTo === undefined ? { lt } : { lte: keyOf(definition, upTo) }),
        highWaterMarkBytes: PAGE_BYTES,
      }),
    )
    try {
      for (;;) {
        const page = await request(() => values.nextv(PAGE))
        if (page.length === 0) return
        yield page
      }
    } finally {
      await values.close()
    }
  }
}

async function open(directory: string): Promise<Database> {
  const db: Database = new ClassicLevel(directory, { maxOpenFiles: OPEN_FILES, maxFileSize: FILE_BYTES })
  try {
    await db.open()
    return db
  } catch (error) {
    throw levelError(error, directory)
  }
}

/** The changes of one batch that move forward, written together and on the disk when this resolves. */
async function applyBatch(db: Database, changes: readonly MirrorChange[]): Promise<Rejection[]> {
  const rejections: Rejection[] = []
  const standing = await db.getMany(changes.map(({ definition, id }) => keyOf(definition, id)))
  const batch: BatchOperation<Database, string, string>[] = []
  for (const [index, change] of changes.entries()) {
    const key = keyOf(change.definition, change.id)
    const text = standing[index]
    const position = text === undefined ? undefined : (JSON.parse(text) as LegacyDocument).dualstore?.seq
    const isNewer = position !== undefined && position >= change.seq
    if (change.over !== undefined ? position !== change.over : isNewer) continue
    if (change.item === null) {
      batch.push({ type: 'del', key })
      continue
    }
    const shape = shaped(change, change.item)
    if ('document' in shape) batch.push({ type: 'put', key, value: JSON.stringify(shape.document) })
    else rejections.push(shape.rejection)
  }
  // fsync: the follower stores its position after this, and the position must not outlive its documents.
  await db.batch(batch, { sync: true })
  return rejections
}

// LevelDB orders keys by their UTF-8 bytes, which is the order of code points. Neither the name of a collection nor
// an id contains NUL, so no key of one collection lies within the range of another.
function keyOf(definition: CollectionDefinition, id: string): string {
  return `${definition.mirror.collection}\0${id}`
}

function rangeOf({ mirror }: CollectionDefinition): { gte: string; lt: string } {
  return { gte: `${mirror.collection}\0`, lt: `${mirror.collection}\u0001` }
}

function byTimestamp(one: LegacyDocument, other: LegacyDocument): number {
  return one.timestamp < other.timestamp ? 1 : one.timestamp > other.timestamp ? -1 : 0
}

function unavailable(message: string, cause?: unknown): DualstoreError {
  return new DualstoreError('MIRROR_UNAVAILABLE', message, { cause })
}

/** Everything LevelDB raises means that the mirror cannot serve; abstract-level's errors carry a LEVEL_ code. */
function levelError(error: unknown, directory: string): unknown {
  if (error instanceof DualstoreError) return error
  const code = levelCode(error)
  if (code === 'LEVEL_LOCKED') {
    return unavailable(
      `the embedded mirror ${directory} is in use by another process: stop it, or give this one its own data ` +
        'directory or a MongoDB (MONGODB_URI)',
      error,
    )
  }
  return code === undefined ? error : unavailable(`the embedded mirror ${directory} cannot be used`, error)
}

/** The innermost code: a failed opening is reported as LEVEL_DATABASE_NOT_OPEN with the reason as its cause. */
function levelCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined
  const inner = levelCode(error.cause)
  if (inner !== undefined) return inner
  const code = 'code' in error ? String(error.code) : ''
  return code.startsWith('LEVEL_') ? code : undefined
}

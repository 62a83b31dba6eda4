import type { Readable } from 'node:stream'
import { appendDeletes, beginEpoch } from '../../changes/epoch.js'
import { lockLog } from '../../changes/read.js'
import { lockMigrations } from '../../db/migrate.js'
import { type Pool, type Queryable, query } from '../../db/pool.js'
import { transaction, unlimited } from '../../db/transaction.js'
import { DualstoreError } from '../../errors.js'
import { MIRROR_FOLLOWER } from '../../followers/mirror.js'
import type { Mirror } from '../../mirror/contract.js'
import type { CollectionDefinition } from '../../schemas/collection.js'
import { shippedCollections } from '../../schemas/shipped-collections.js'
import {
  forgetAllKeys,
  isEmpty,
  missingAmong,
  restoreCollection,
  restoreKeys,
  restoreStretch,
  type WholeCollection,
  type WholeDocument,
  wholeCollections,
} from '../../store/backup.js'
import { dropPartition, setCollectionState } from '../../store/collections.js'
import { indexStatements } from '../../store/indexes.js'
import { ensureFollower, lockFollowers, loseFollower, readFollowers } from '../../store/positions.js'
import { recordAudit } from '../audit.js'
import type { Access } from '../principal.js'
import type { Manifest } from './format.js'
import { readArchive } from './read.js'

export interface RestoreOptions {
  /** Who asks, for the audit. */
  access: Access
  /** Put the archive in the place of what there is. */
  replace: boolean
  /** Add the API keys of the archive. */
  withKeys: boolean
  onProgress: (documents: number) => void
  /** Seal of the archive that was checked before: what is restored must be the same. */
  sha256: string
}

export interface RestoreReport {
  manifest: Manifest
  /** Documents that were not in the archive, or were another version of what is. */
  deleted: number
  inserted: number
  /** Documents that were as in the archive already. */
  unchanged: number
  /** Documents that only the mirror held. */
  mirror_only: number
  /** API keys that were added. */
  keys: number
  epoch: string
  position: number
}

const SHIPPED = shippedCollections.map(({ name }) => name)
const MIRROR_PAGE = 1000

/** @throws CONFLICT when there is something that would be replaced. */
export async function requireEmpty(on: Queryable): Promise<void> {
  if (await isEmpty(on, SHIPPED)) return
  throw new DualstoreError(
    'CONFLICT',
    'this database is not empty: --replace --yes puts the archive in its place',
  )
}

/**
 * Restores an archive in one transaction: all of it, or nothing. Everything is written through the log, so that
 * whoever follows it follows this too; documents that only the mirror holds are deleted there by way of the log as well.
 * @param open Opens the archive from its beginning.
 * @param mirror Where documents could be that the database knows nothing of; undefined: nobody looked, and the mirror's
 *   follower is marked as lost when there is one.
 */
export async function restoreArchive(
  pool: Pool,
  mirror: Mirror | undefined,
  open: () => Readable,
  options: RestoreOptions,
): Promise<RestoreReport> {
  return transaction(pool, async (tx) => {
    await unlimited(tx)
    await lockMigrations(tx)
    await lockFollowers(tx)
    await requireNoServer(tx)
    await lockLog(tx)
    if (!options.replace) await requireEmpty(tx)
    const present = await wholeCollections(tx)
    const restoring = createRestoring(tx, options)
    for await (const piece of readArchive(open())) {
      if (piece.kind === 'header') await restoring.begin(piece.header.position)
      else if (piece.kind === 'collection') await restoring.collection(piece.collection)
      else if (piece.kind === 'documents') await restoring.documents(piece.documents)
      else if (piece.kind === 'keys') await restoring.keys(piece.texts)
      else if (piece.sha256 === options.sha256) await restoring.end(piece.manifest)
      else
        throw new DualstoreError(
          'INVALID_ARCHIVE',
          'the archive changed while it was read; nothing was restored',
        )
    }
    const report = restoring.report()
    const kept = new Set(Object.keys(report.manifest.collections))
    for (const { name } of present.filter((collection) => !kept.has(collection.name))) {
      report.deleted += await removeCollection(tx, name)
    }
    await forgetAllKeys(tx)
    if (mirror === undefined) await loseMirror(tx)
    else report.mirror_only = await deleteMirrorOnly(tx, mirror)
    const { manifest, ...done } = report
    const { created, documents } = manifest
    await recordAudit(tx, options.access, {
      action: 'database.restore',
      target: null,
      details: { archive: options.sha256, created, documents, ...done },
    })
    return report
  })
}

function createRestoring(
  tx: Queryable,
  { withKeys, onProgress }: Pick<RestoreOptions, 'withKeys' | 'onProgress'>,
) {
  let log = { epoch: '', position: 0 }
  let current: CollectionDefinition | undefined
  let last = ''
  let manifest: Manifest | undefined
  const counts = { deleted: 0, inserted: 0, keys: 0, seen: 0 }

  const stretch = async (documents: readonly WholeDocument[], upTo: string | null): Promise<void> => {
    if (current === undefined) return
    const { deleted, inserted } = await restoreStretch(tx, current.name, { after: last, upTo }, documents)
    counts.deleted += deleted
    counts.inserted += inserted
    counts.seen += documents.length
    onProgress(counts.seen)
  }
  /** What is behind the last document of the archive goes; indexes are made when the documents are there. */
  const endCollection = async (): Promise<void> => {
    if (current === undefined) return
    await stretch([], null)
    for (const statement of await indexStatements(tx, current, false)) await query(tx, statement)
    current = undefined
  }

  return {
    async begin(archived: number): Promise<void> {
      log = await beginEpoch(tx, archived)
    },
    async collection(collection: WholeCollection): Promise<void> {
      await endCollection()
      await restoreCollection(tx, collection)
      current = collection.definition
      last = ''
    },
    async documents(documents: readonly WholeDocument[]): Promise<void> {
      const upTo = documents.at(-1)?.id ?? last
      await stretch(documents, upTo)
      last = upTo
    },
    async keys(texts: readonly string[]): Promise<void> {
      if (withKeys) counts.keys += await restoreKeys(tx, texts)
    },
    async end(found: Manifest): Promise<void> {
      await endCollection()
      manifest = found
    },
    report(): RestoreReport {
      const { deleted, inserted, keys, seen } = counts
      // readArchive ends with the manifest or with an error.
      if (manifest === undefined) throw new DualstoreError('INVALID_ARCHIVE', 'the archive has no end')
      return { manifest, deleted, inserted, unchanged: seen - inserted, mirror_only: 0, keys, ...log }
    },
  }
}

/**
 * A server would go on giving out positions of the epoch that ends here, and its mirror must not write meanwhile.
 * @throws CONFLICT
 */
export async function requireNoServer(on: Queryable): Promise<void> {
  const led = (await readFollowers(on)).filter((follower) => follower.led)
  if (led.length === 0) return
  throw new DualstoreError(
    'CONFLICT',
    'a server runs on this database: stop all of them first (one that was killed is noticed after 5 seconds)',
  )
}

async function removeCollection(tx: Queryable, name: string): Promise<number> {
  const { deleted } = await restoreStretch(tx, name, { after: '', upTo: null }, [])
  if (SHIPPED.includes(name)) return deleted
  await dropPartition(tx, name)
  await setCollectionState(tx, name, 'dropped')
  return deleted
}

/** After a loss of the database the mirror may hold documents that are younger than the archive. */
async function deleteMirrorOnly(tx: Queryable, mirror: Mirror): Promise<number> {
  let count = 0
  for (const { definition } of await wholeCollections(tx)) {
    let page: { id: string; version: number }[] = []
    const look = async () => {
      const missing = new Set(
        await missingAmong(
          tx,
          definition.name,
          page.map(({ id }) => id),
        ),
      )
      await appendDeletes(
        tx,
        definition.name,
        page.filter(({ id }) => missing.has(id)),
      )
      count += missing.size
      page = []
    }
    for await (const { item, version } of mirror.scan(definition)) {
      page.push({ id: item.id, version })
      if (page.length === MIRROR_PAGE) await look()
    }
    if (page.length > 0) await look()
  }
  return count
}

async function loseMirror(tx: Queryable): Promise<void> {
  await ensureFollower(tx, MIRROR_FOLLOWER)
  await loseFollower(
    tx,
    MIRROR_FOLLOWER,
    'a backup was restored without a look at the mirror: it must be built anew',
  )
}

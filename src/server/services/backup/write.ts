import { readHead } from '../../changes/read.js'
import type { ReadSnapshot } from '../../db/transaction.js'
import { DualstoreError } from '../../errors.js'
import {
  presentTable,
  storedKeys,
  type WholeCollection,
  wholeCollections,
  wholePage,
} from '../../store/backup.js'
import {
  collectionLine,
  createDigest,
  documentLine,
  FORMAT,
  type Header,
  headerLine,
  keyLine,
  type Manifest,
  manifestLine,
  sealLine,
} from './format.js'

export interface WriteOptions {
  /** Version of the program, for the manifest. */
  program: string
  withKeys: boolean
  now: () => number
  onProgress: (documents: number) => void
}

/** The lines of an archive, in chunks; returns its manifest and seal. @throws CONFLICT when a collection is dropped */
export async function* archiveChunks(
  read: ReadSnapshot,
  options: WriteOptions,
): AsyncGenerator<string, { manifest: Manifest; sha256: string }> {
  const all = createDigest()
  const chunk = (lines: readonly string[]): string => {
    for (const line of lines) all.add(line)
    return `${lines.join('\n')}\n`
  }
  const { program } = options
  const { collections, head, keys } = await read(async (tx) => ({
    head: await readHead(tx),
    collections: await wholeCollections(tx),
    keys: options.withKeys ? await storedKeys(tx) : null,
  }))
  const { epoch, position } = head
  const created = new Date(options.now()).toISOString()
  const about = { format: FORMAT, program, created, epoch, position } as const
  const header: Header = { dualstore: 'backup', ...about }
  yield chunk([headerLine(header)])

  const manifest: Manifest = { ...about, documents: 0, keys: keys?.length ?? null, collections: {} }
  for (const { table, ...collection } of collections) {
    yield chunk([collectionLine(collection)])
    const digest = createDigest()
    let documents = 0
    for await (const page of pages(read, collection, table)) {
      const lines = page.map(documentLine)
      for (const line of lines) digest.add(line)
      documents += lines.length
      options.onProgress(manifest.documents + documents)
      yield chunk(lines)
    }
    manifest.documents += documents
    manifest.collections[collection.name] = { documents, sha256: digest.hex() }
  }
  if (keys !== null && keys.length > 0) yield chunk(keys.map(keyLine))
  yield chunk([manifestLine(manifest)])
  const sha256 = all.hex()
  yield `${sealLine(sha256)}\n`
  return { manifest, sha256 }
}

async function* pages(read: ReadSnapshot, { name }: WholeCollection, table: number | null) {
  for (let last = ''; ; ) {
    const page = await read((tx) => wholePage(tx, name, last))
    // Rows that are deleted stay in the snapshot; those of a table that is dropped do not, and nothing would tell.
    if (table === null || (await read((tx) => presentTable(tx, name))) !== table) {
      throw new DualstoreError(
        'CONFLICT',
        `the collection ${name} was dropped meanwhile; begin the backup again`,
      )
    }
    if (page.length === 0) return
    yield page
    last = page.at(-1)?.id ?? last
  }
}

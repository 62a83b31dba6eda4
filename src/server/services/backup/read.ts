import { isUtf8 } from 'node:buffer'
import { Readable } from 'node:stream'
import { isDeepStrictEqual } from 'node:util'
import { DualstoreError } from '../../errors.js'
import { compareCodePoints } from '../../filter/compare.js'
import type { WholeCollection, WholeDocument } from '../../store/backup.js'
import { readLines } from '../lines.js'
import { createDigest, FORMAT, type Header, type Manifest, parseDocumentLine, sealLine } from './format.js'

/** What an archive holds, piece by piece. */
export type Piece =
  | { kind: 'header'; header: Header }
  | { kind: 'collection'; collection: WholeCollection }
  /** Of the collection that came last, by ascending id. */
  | { kind: 'documents'; documents: WholeDocument[] }
  | { kind: 'keys'; texts: string[] }
  /** Comes last, and only when everything was as the archive says. */
  | { kind: 'end'; manifest: Manifest; sha256: string }

/** Longer than any document that PostgreSQL holds as jsonb, and shorter than the longest string of Node. */
const MAX_LINE_BYTES = 500 * 1024 * 1024

/**
 * Reads an archive and checks every byte of it. Only when `end` has come, everything before it was right.
 * @throws INVALID_ARCHIVE naming the line and what is wrong there
 */
export async function* readArchive(source: Readable): AsyncGenerator<Piece> {
  const reading = createReading()
  let bytes = 0
  async function* counted() {
    for await (const chunk of source as AsyncIterable<Buffer>) {
      bytes += chunk.length
      yield chunk
    }
  }
  try {
    for await (const lines of readLines(Readable.from(counted(), { objectMode: false }), MAX_LINE_BYTES)) {
      yield* reading.take(lines)
    }
  } catch (error) {
    if (error instanceof DualstoreError && error.code === 'INVALID_ARCHIVE') throw error
    const { code, message } = error as NodeJS.ErrnoException
    if (error instanceof DualstoreError || code?.startsWith('Z_')) throw wrong(reading.line, message)
    throw error
  }
  yield reading.finish(bytes)
}

function createReading() {
  const all = createDigest()
  const found: Manifest['collections'] = {}
  let line = 0
  let bytes = 0
  let header: Header | undefined
  let current:
    | { name: string; documents: number; digest: ReturnType<typeof createDigest>; last: string }
    | undefined
  let documentCount = 0
  let keyCount = 0
  let manifest: Manifest | undefined
  let seal: string | undefined

  const fail = (message: string) => wrong(line, message)

  const endCollection = (): void => {
    if (current === undefined) return
    found[current.name] = { documents: current.documents, sha256: current.digest.hex() }
    current = undefined
  }

  const takeHeader = (value: unknown): Piece => {
    const given = value as Partial<Header>
    if (given.dualstore !== 'backup') throw fail('this is no backup of dualstore')
    if (given.format !== FORMAT) {
      throw fail(`its format is version ${String(given.format)}, and this program reads version ${FORMAT}`)
    }
    const { epoch, position, created, program } = given
    if (![epoch, created, program].every((text) => typeof text === 'string') || !isCount(position)) {
      throw fail('the header is not complete')
    }
    header = given as Header
    return { kind: 'header', header }
  }

  const takeDocument = (text: string, document: WholeDocument): WholeDocument => {
    if (current === undefined) throw fail('a document stands outside of a collection')
    if (document.id === '' || compareCodePoints(document.id, current.last) <= 0) {
      throw fail('the documents are not in the order of their ids')
    }
    current.last = document.id
    current.documents++
    current.digest.add(text)
    documentCount++
    return document
  }

  const takeCollection = (value: unknown): Piece => {
    const collection = value as WholeCollection
    const { name, definition, version, created_at, updated_at } = collection
    const texts = [name, created_at, updated_at]
    if (texts.some((text) => typeof text !== 'string') || definition?.name !== name || !isCount(version)) {
      throw fail('the collection is not complete')
    }
    const before = current?.name ?? ''
    endCollection()
    if (keyCount > 0 || compareCodePoints(name, before) <= 0) throw fail('the collections are not in order')
    current = { name, documents: 0, digest: createDigest(), last: '' }
    return { kind: 'collection', collection }
  }

  const takeManifest = (value: unknown): void => {
    endCollection()
    manifest = value as Manifest
    const { format, program, created, epoch, position } = header as Header
    const keys = manifest.keys === null && keyCount === 0 ? null : keyCount
    const counted: Manifest = {
      format,
      program,
      created,
      epoch,
      position,
      documents: documentCount,
      keys,
      collections: found,
    }
    if (!isDeepStrictEqual(manifest, counted)) throw fail('the manifest does not tell what is in the archive')
  }

  return {
    get line() {
      return line
    },

    *take(lines: readonly Buffer[]): Generator<Piece> {
      let documents: WholeDocument[] = []
      const flush = function* (): Generator<Piece> {
        if (documents.length > 0) yield { kind: 'documents', documents }
        documents = []
      }
      for (const buffer of lines) {
        line++
        bytes += buffer.length + 1
        if (seal !== undefined) throw fail('something stands behind the end')
        if (!isUtf8(buffer)) throw fail('it is not UTF-8')
        const text = buffer.toString()
        if (manifest !== undefined) {
          seal = all.hex()
          if (text !== sealLine(seal)) throw fail('the archive is not what was written: its hash is another')
          continue
        }
        all.add(buffer)
        const document = header === undefined ? undefined : parseDocumentLine(text)
        if (document !== undefined) {
          documents.push(takeDocument(text, document))
          continue
        }
        yield* flush()
        const value = parsed(text, fail)
        if (header === undefined) yield takeHeader(value)
        else if ('collection' in value) yield takeCollection(value.collection)
        else if ('manifest' in value) takeManifest(value.manifest)
        else if ('key' in value) {
          endCollection()
          keyCount++
          yield { kind: 'keys', texts: [JSON.stringify(value.key)] }
        } else throw fail('nothing that an archive holds')
      }
      yield* flush()
    },

    finish(total: number): Piece {
      if (manifest === undefined || seal === undefined || total !== bytes) {
        line++
        throw fail(header === undefined ? 'this is no backup of dualstore' : 'the archive ends too early')
      }
      return { kind: 'end', manifest, sha256: seal }
    },
  }
}

function parsed(text: string, fail: (message: string) => DualstoreError): object {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null) return value
  } catch {
    // Said below.
  }
  throw fail('it is not a JSON object')
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0

function wrong(line: number, message: string): DualstoreError {
  return new DualstoreError('INVALID_ARCHIVE', `line ${line}: ${message}; nothing was restored`)
}

import { createHash } from 'node:crypto'
import type { WholeCollection, WholeDocument } from '../../store/backup.js'

/**
 * An archive is NDJSON. In order: the header; each collection by name, each followed by its documents by id; the keys,
 * when they are in it; the manifest; the seal, which is the sha256 of every byte before its own line.
 */
export const FORMAT = 1

/** The first line. */
export interface Header {
  dualstore: 'backup'
  format: typeof FORMAT
  /** Version of the program that wrote it. */
  program: string
  /** ISO 8601. */
  created: string
  epoch: string
  /** Of the log: the archive is the state at this position. */
  position: number
}

/** What the archive holds, counted and hashed as it was written. */
export interface Manifest extends Omit<Header, 'dualstore'> {
  documents: number
  /** null: the keys are not in it. */
  keys: number | null
  /** By name; the sha256 is that of the lines of the collection's documents. */
  collections: Record<string, { documents: number; sha256: string }>
}

export const headerLine = (header: Header): string => JSON.stringify(header)
export const collectionLine = (collection: WholeCollection): string => JSON.stringify({ collection })
export const keyLine = (text: string): string => `{"key":${text}}`
export const manifestLine = (manifest: Manifest): string => JSON.stringify({ manifest })
export const sealLine = (sha256: string): string => JSON.stringify({ sha256 })

/** The item's text is passed on as it is stored: reading it into numbers of JavaScript could change it. */
export function documentLine({ id, version, created_at, updated_at, text }: WholeDocument): string {
  return `{"id":${JSON.stringify(id)},"version":${version},"created_at":${created_at},"updated_at":${updated_at},"item":${text}}`
}

const DOCUMENT =
  /^\{"id":("(?:[^"\\]|\\.)*"),"version":(\d{1,16}),"created_at":(-?\d{1,16}),"updated_at":(-?\d{1,16}),"item":(\{.*\})\}$/s

/** Reads what documentLine wrote; undefined for anything else. */
export function parseDocumentLine(line: string): WholeDocument | undefined {
  const [, quoted, version, createdAt, updatedAt, text] = DOCUMENT.exec(line) ?? []
  const id = quoted === undefined ? undefined : parsedText(quoted)
  if (id === undefined || text === undefined) return undefined
  return { id, version: Number(version), created_at: Number(createdAt), updated_at: Number(updatedAt), text }
}

/** undefined for what only looks like a text of JSON, because of a control character or an escape in it. */
function parsedText(quoted: string): string | undefined {
  try {
    return JSON.parse(quoted) as string
  } catch {
    return undefined
  }
}

/** The hash of lines, each with its newline. */
export function createDigest() {
  const hash = createHash('sha256')
  return {
    add: (line: string | Buffer): void => void hash.update(line).update('\n'),
    hex: (): string => hash.digest('hex'),
  }
}

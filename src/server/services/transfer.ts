import type { Readable } from 'node:stream'
import { CHANGES_CHANNEL, type Hints } from '../changes/hints.js'
import type { Pool } from '../db/pool.js'
import { DualstoreError, type Fault } from '../errors.js'
import type { SelectionQuery } from '../schemas/wire.js'
import type { StoredDocument, Write } from '../store/documents.js'
import { scanDocuments } from '../store/scan.js'
import type { Written } from './gatherer.js'
import { idFault, newId } from './ids.js'
import { ownFields } from './item-validator.js'
import { parseJson } from './json.js'
import { readLines } from './lines.js'
import type { ListingService } from './listing.js'
import type { Access } from './principal.js'
import type { Collection, Registry } from './registry.js'
import { requireScope } from './rights.js'
import { parseTime } from './time.js'
import type { Writer } from './writer.js'

/** What an import does with an id that is taken: report it, leave the stored document, or replace it. */
export type OnConflict = 'error' | 'skip' | 'replace'

/** One line that was not imported. */
export interface LineFault extends Fault {
  line: number
  id?: string
}

/** received = created + replaced + skipped + failed; blank lines do not count. */
export interface ImportReport {
  received: number
  created: number
  replaced: number
  skipped: number
  failed: number
  /** The first lines that failed; `failed` counts all of them. */
  errors: LineFault[]
}

export interface ImportOptions {
  onConflict: OnConflict
  /** Longest line in bytes. */
  maxLineBytes: number
  /** Called now and then with what is done so far. */
  onProgress?: (report: ImportReport) => void
}

/** A document to write and the line it came from. */
interface NumberedWrite {
  line: number
  write: Write
}

export interface TransferServiceOptions {
  pool: Pool
  registry: Registry
  listing: Pick<ListingService, 'select'>
  writer: Writer
  hints: Hints
  now?: () => number
}

export type TransferService = ReturnType<typeof createTransferService>

/** Documents read from the stream and not yet written: the bound on memory, and what fills the gathered statements. */
const IN_FLIGHT = 2000
/** The same in characters of their text, for documents that are large. */
const IN_FLIGHT_TEXT = 32 * 1024 * 1024
const MAX_ERRORS = 100

export function createTransferService({
  pool,
  registry,
  listing,
  writer,
  hints,
  now = Date.now,
}: TransferServiceOptions) {
  return {
    /**
     * Imports NDJSON: one item a line, with its own id and times where it has them. Reads only as fast as PostgreSQL
     * writes. A line that is wrong is reported with its number and disturbs no other.
     * @throws INVALID_REQUEST when the stream ends early; STORE_UNAVAILABLE when PostgreSQL goes away; what
     * was acknowledged before is written.
     */
    async importNdjson(
      access: Access,
      name: string,
      source: Readable,
      options: ImportOptions,
    ): Promise<ImportReport> {
      requireScope(access.principal, 'write', name)
      const collection = await registry.get(name)
      const report: ImportReport = { received: 0, created: 0, replaced: 0, skipped: 0, failed: 0, errors: [] }
      const pending = new Set<Promise<void>>()
      let inFlight = 0
      let textInFlight = 0
      let outage: unknown
      let lineNumber = 0
      let told = 0

      const fail = (line: number, fault: Fault, id?: string) => {
        report.failed++
        if (report.errors.length < MAX_ERRORS) report.errors.push({ line, ...(id && { id }), ...fault })
      }
      const submit = async (batch: readonly NumberedWrite[]): Promise<void> => {
        const text = batch.reduce((sum, { write }) => sum + write.text.length, 0)
        inFlight += batch.length
        textInFlight += text
        const results = await writer.writeAll(
          access,
          batch.map(({ write }) => write),
        )
        inFlight -= batch.length
        textInFlight -= text
        batch.forEach(({ line, write }, index) => {
          const result = results[index]
          if (result?.status === 'fulfilled') {
            count(report, result.value, options.onConflict, (fault) => fail(line, fault, write.id))
            return
          }
          const error: unknown = result?.reason
          if (!(error instanceof DualstoreError) || error.retryable) outage ??= error
          else fail(line, error.details?.[0] ?? { field: 'item', message: error.message }, write.id)
        })
      }

      try {
        for await (const lines of readLines(source, options.maxLineBytes)) {
          const batch: NumberedWrite[] = []
          for (const line of lines) {
            lineNumber++
            if (line.length === 0 || line.every((byte) => byte <= 0x20)) continue
            report.received++
            const write = readLine(line, collection, options.onConflict, now())
            if ('message' in write) fail(lineNumber, write)
            else batch.push({ line: lineNumber, write })
          }
          const task = submit(batch).finally(() => pending.delete(task))
          pending.add(task)
          while (inFlight >= IN_FLIGHT || textInFlight >= IN_FLIGHT_TEXT) await Promise.race(pending)
          if (outage !== undefined) throw outage
          if (report.received - told >= IN_FLIGHT) {
            told = report.received
            hints.tell(CHANGES_CHANNEL)
            options.onProgress?.(report)
          }
        }
      } catch (error) {
        if (error instanceof DualstoreError) throw error
        throw new DualstoreError('INVALID_REQUEST', `the stream broke off behind line ${lineNumber}`, {
          cause: error,
        })
      } finally {
        await Promise.all(pending)
        hints.tell(CHANGES_CHANNEL)
      }
      if (outage !== undefined) throw outage
      options.onProgress?.(report)
      return report
    },

    /**
     * Exports the selected items as NDJSON, by ascending id, in chunks of whole lines; the text is passed on as it is
     * stored.
     * @throws INVALID_REQUEST, INVALID_FILTER, FORBIDDEN, COLLECTION_NOT_FOUND before anything is read
     */
    async exportNdjson(access: Access, name: string, query: SelectionQuery): Promise<AsyncGenerator<string>> {
      const selection = await listing.select(access, name, query)
      return linesOf(scanDocuments(pool, selection))
    },
  }
}

async function* linesOf(pages: AsyncIterable<StoredDocument[]>): AsyncGenerator<string> {
  for await (const page of pages) yield `${page.map((document) => document.text).join('\n')}\n`
}

/** The write of one line, or what is wrong with it. */
function readLine(line: Buffer, collection: Collection, onConflict: OnConflict, now: number): Write | Fault {
  let item: Record<string, unknown>
  try {
    item = parseJson(line, 'the line') as Record<string, unknown>
  } catch (error) {
    return { field: 'line', message: (error as Error).message }
  }
  if (typeof item !== 'object' || item === null || Array.isArray(item)) {
    return { field: 'line', message: 'must be a JSON object' }
  }
  const id = item.id ?? newId(collection.definition.id_prefix, now)
  const createdAt = item.created_at === undefined ? now : parseTime(item.created_at)
  const updatedAt = item.updated_at === undefined ? Math.max(createdAt ?? 0, now) : parseTime(item.updated_at)
  const fields = ownFields(item)
  const fault = idFault(id, 'item.id') ?? collection.validate(fields, 'item')
  if (fault !== undefined) return fault
  if (createdAt === undefined) return { field: 'item.created_at', message: 'must be an ISO 8601 time' }
  if (updatedAt === undefined) return { field: 'item.updated_at', message: 'must be an ISO 8601 time' }
  const times = {
    created_at: new Date(createdAt).toISOString(),
    updated_at: new Date(updatedAt).toISOString(),
  }
  return {
    mode: onConflict === 'replace' ? 'load' : 'create',
    collection: collection.definition.name,
    id: id as string,
    text: JSON.stringify({ id, ...times, ...fields }),
    ifVersion: null,
    createdAt,
    updatedAt,
    idempotency: null,
  }
}

function count(
  report: ImportReport,
  written: Written,
  onConflict: OnConflict,
  fail: (fault: Fault) => void,
): void {
  if (written.outcome === 'created') report.created++
  else if (written.outcome === 'replaced') report.replaced++
  else if (onConflict === 'skip') report.skipped++
  // One outside of the caller's rows is not replaced.
  else if (onConflict === 'replace') fail({ field: 'item.id', message: 'is taken' })
  else fail({ field: 'item.id', message: 'is taken; on_conflict=skip or on_conflict=replace say what to do' })
}

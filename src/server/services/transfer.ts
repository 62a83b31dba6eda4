import type { Readable } from 'node:stream'
import { CHANGES_CHANNEL, type Hints } from '../changes/hints.js'
import type { Pool } from '../db/pool.js'
import { DualstoreError, type Fault } from '../errors.js'
import type { Mirror } from '../mirror/contract.js'
import type { Item } from '../schemas/item.js'
import type { SelectionQuery } from '../schemas/wire.js'
import type { Write } from '../store/documents.js'
import type { Selection } from '../store/list.js'
import { scanDocuments } from '../store/scan.js'
import type { Consistency, ConsistencyLevel } from './consistency.js'
import { type ReadOptions, requireMirror } from './fallback.js'
import type { Written } from './gatherer.js'
import { idFault, newId } from './ids.js'
import { ownFields } from './item-validator.js'
import { parseJson } from './json.js'
import { readLines } from './lines.js'
import type { ListingService } from './listing.js'
import { selectMirrored } from './mirror-listing.js'
import type { Access } from './principal.js'
import type { Collection, Registry } from './registry.js'
import { requireScope } from './rights.js'
import { parseTime, timeText } from './time.js'
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
  /** From where on all that was written is visible: the text for x-dualstore-position; null when nothing was. */
  position: string | null
}

export interface ImportOptions {
  onConflict: OnConflict
  /** Longest line in bytes. */
  maxLineBytes: number
  consistency?: ConsistencyLevel | undefined
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
  consistency: Consistency
  mirror: Mirror | undefined
  now?: () => number
}

export type TransferService = ReturnType<typeof createTransferService>

/** Documents read from the stream and not yet written: the bound on memory, and what fills the gathered statements. */
const IN_FLIGHT = 2000
/** The same in characters of their text, for documents that are large. */
const IN_FLIGHT_TEXT = 32 * 1024 * 1024
const MAX_ERRORS = 100
/** Characters of an export's chunk from the mirror. */
const CHUNK = 64 * 1024

export function createTransferService({
  pool,
  registry,
  listing,
  writer,
  hints,
  consistency,
  mirror,
  now = Date.now,
}: TransferServiceOptions) {
  async function* stored(selection: Selection): AsyncGenerator<string> {
    for await (const page of scanDocuments(pool, selection)) {
      yield `${page.map((document) => document.text).join('\n')}\n`
    }
  }

  return {
    /**
     * Imports NDJSON: one item a line, with its own id and times where it has them. Reads only as fast as PostgreSQL
     * writes. A line that is wrong is reported with its number and disturbs no other.
     * @throws INVALID_REQUEST when the stream ends early; STORE_UNAVAILABLE when PostgreSQL goes away; with strict,
     * MIRROR_UNAVAILABLE before anything is read, and WAIT_TIMEOUT when the mirror does not take it. What was
     * acknowledged before is written.
     */
    async importNdjson(
      access: Access,
      name: string,
      source: Readable,
      options: ImportOptions,
    ): Promise<ImportReport> {
      requireScope(access.principal, 'write', name)
      const collection = await registry.get(name)
      const level = consistency.level(options.consistency)
      consistency.beforeWrite(level)
      const counts = { received: 0, created: 0, replaced: 0, skipped: 0, failed: 0 }
      const report: ImportReport = { ...counts, errors: [], position: null }
      let position = 0
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
        const keys: { collection: string; id: string }[] = []
        batch.forEach(({ line, write }, index) => {
          const result = results[index]
          if (result?.status === 'fulfilled') {
            const written = result.value.position
            if (written !== null) {
              position = Math.max(position, written)
              if (level === 'strict') keys.push({ collection: write.collection, id: write.id })
            }
            count(report, result.value, options.onConflict, (fault) => fail(line, fault, write.id))
            return
          }
          const error: unknown = result?.reason
          if (!(error instanceof DualstoreError) || error.retryable) outage ??= error
          else fail(line, error.details?.[0] ?? { field: 'item', message: error.message }, write.id)
        })
        if (keys.length > 0) {
          hints.tell(CHANGES_CHANNEL)
          await consistency.afterWrites(level, position, keys).catch((error: unknown) => {
            outage ??= error
          })
        }
        inFlight -= batch.length
        textInFlight -= text
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
      if (position > 0) report.position = consistency.format(position)
      options.onProgress?.(report)
      return report
    },

    /**
     * Exports the selected items as NDJSON, by ascending id, in chunks of whole lines; from PostgreSQL their text is
     * passed on as it is stored. What is waited for is there when this resolves.
     * @throws INVALID_REQUEST, also for what the mirror cannot do: full text; INVALID_FILTER, FORBIDDEN,
     * COLLECTION_NOT_FOUND before anything is read
     */
    async exportNdjson(
      access: Access,
      name: string,
      query: SelectionQuery,
      { from = 'postgres', waitFor }: ReadOptions = {},
    ): Promise<AsyncIterable<string>> {
      const selection = await listing.select(access, name, query)
      if (from === 'mirror') requireMirror(mirror)
      if (waitFor !== undefined) await consistency.waitFor(waitFor, from)
      if (from === 'postgres') return stored(selection)
      const { definition } = await registry.get(selection.collection)
      return linesOf(selectMirrored(requireMirror(mirror), definition, selection))
    },
  }
}

/** Items as lines, some thousand characters at once. */
async function* linesOf(items: AsyncIterable<Item>): AsyncGenerator<string> {
  let chunk = ''
  for await (const item of items) {
    chunk += `${JSON.stringify(item)}\n`
    if (chunk.length < CHUNK) continue
    yield chunk
    chunk = ''
  }
  if (chunk !== '') yield chunk
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
    created_at: timeText(createdAt),
    updated_at: timeText(updatedAt),
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

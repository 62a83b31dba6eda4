import { pipeline } from 'node:stream/promises'
import { Command } from 'commander'
import type { SelectionQuery } from '../../../server/schemas/wire.js'
import type { CollectionsClient } from '../../client/contract.js'
import { addConnection, type ConnectionFlags, withClient } from '../../client/open.js'
import { type FileTarget, fileTarget } from '../../file-target.js'
import { Interrupted } from '../../interrupt.js'
import { countLines, type Meter } from '../../lines.js'
import { counted, print, say } from '../../output.js'
import { showProgress } from '../../progress.js'

type ExportFlags = ConnectionFlags & {
  out?: string
  filter?: string
  sessionId?: string
  createdAfter?: string
  createdBefore?: string
  q?: string
  yes?: boolean
  json?: boolean
}

export function exportCommand(): Command {
  const command = new Command('export')
    .description('Export the documents of a collection as NDJSON, by ascending id')
    .helpOption('-h, --help', 'print this help')
    .argument('<collection>', 'the collection')
    .option('--out <file>', 'file to write, complete or not at all; otherwise stdout')
    .option('--filter <json>', 'only what matches, in a subset of the MongoDB query language')
    .option('--session-id <id>', 'only with this session_id')
    .option('--created-after <time>', 'only created at or after this ISO 8601 time')
    .option('--created-before <time>', 'only created at or before this ISO 8601 time')
    .option('--q <text>', 'only what holds these words')
    .option('--yes', 'overwrite the file when there is one')
    .option('--json', 'with --out, print one JSON document on what was written')
    .addHelpText(
      'after',
      `
Examples:
  dualstore collections export agent_tasks --out tasks.ndjson
  dualstore collections export agent_tasks --filter '{"status": "failed"}' | jq .error_message
  dualstore collections export agent_tasks --url http://a:3000 | dualstore collections import agent_tasks --url http://b:3000`,
    )
    .action(async (collection: string, flags: ExportFlags) => {
      const target = await openTarget(flags)
      const meter: Meter = { bytes: 0, lines: 0 }
      await withClient(
        flags,
        async (client, signal) => {
          const source = await client.exportNdjson(collection, selectionOf(flags))
          const total = target.progress ? await totalOf(client, collection, flags) : undefined
          const progress = target.progress
            ? await showProgress({
                label: `exporting ${collection}`,
                documents: () => meter.lines,
                done: () => meter.lines,
                total,
              })
            : { stop: () => {} }
          try {
            const options = { signal, end: target.file !== undefined }
            await pipeline(source, (chunks) => metered(chunks, meter), target.open(), options)
            progress.stop()
            await target.complete()
          } catch (error) {
            progress.stop()
            await target.abandon()
            if (signal.aborted) throw new Interrupted(interruption(target, meter))
            throw error
          }
        },
        { inOrder: true },
      )
      if (target.file === undefined) return
      say(`exported ${counted(meter.lines, 'document')} to ${target.file}`)
      const json = { collection, file: target.file, documents: meter.lines, bytes: meter.bytes }
      await print({ json, text: [] }, flags)
    })
  return addConnection(command)
}

function selectionOf(flags: ExportFlags): SelectionQuery {
  const { sessionId, createdAfter, createdBefore, filter, q } = flags
  return {
    ...(sessionId !== undefined && { session_id: sessionId }),
    ...(createdAfter !== undefined && { created_after: createdAfter }),
    ...(createdBefore !== undefined && { created_before: createdBefore }),
    ...(filter !== undefined && { filter }),
    ...(q !== undefined && { q }),
  }
}

/** For the time left; a selection is not counted, which would cost as much as exporting it. */
async function totalOf(
  client: CollectionsClient,
  collection: string,
  flags: ExportFlags,
): Promise<number | undefined> {
  return Object.keys(selectionOf(flags)).length === 0 ? client.count(collection) : undefined
}

async function* metered(
  chunks: AsyncIterable<Uint8Array | string>,
  meter: Meter,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
    meter.bytes += bytes.length
    meter.lines += countLines(bytes)
    yield bytes
  }
}

interface Target extends FileTarget {
  /** The file that is asked for; undefined is stdout. */
  file: string | undefined
  /** False when the documents themselves go to the terminal. */
  progress: boolean
}

/** @throws CONFIRMATION_REQUIRED when the file is there and may not be overwritten. */
async function openTarget({ out, yes }: ExportFlags): Promise<Target> {
  if (out !== undefined && out !== '-') {
    return { file: out, progress: true, ...(await fileTarget('--out', out, yes)) }
  }
  const nothing = async () => {}
  const progress = process.stdout.isTTY !== true
  return { file: undefined, progress, open: () => process.stdout, complete: nothing, abandon: nothing }
}

function interruption(target: Target, meter: Meter): string {
  return target.file === undefined
    ? `interrupted after ${counted(meter.lines, 'document')}`
    : `interrupted after ${counted(meter.lines, 'document')}; ${target.file} was not written`
}

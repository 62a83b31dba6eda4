import { open, stat } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { Command, Option } from 'commander'
import { invalid } from '../../../server/errors.js'
import type { ImportReport, OnConflict } from '../../../server/services/transfer.js'
import { addConnection, type ConnectionFlags, withClient } from '../../client/open.js'
import { type Meter, wholeLines } from '../../lines.js'
import { sayWhenMirrorWaits } from '../../mirror-note.js'
import { number, print, say, type Table } from '../../output.js'
import { showProgress } from '../../progress.js'
import { EXIT_FOUND, EXIT_INTERRUPTED } from '../../report.js'

type ImportFlags = ConnectionFlags & { onConflict: OnConflict; json?: boolean }

export function importCommand(): Command {
  const command = new Command('import')
    .description('Import NDJSON, one item a line; ids and times in the lines are kept')
    .helpOption('-h, --help', 'print this help')
    .argument('<collection>', 'the collection')
    .argument('[file]', 'file to read; - or nothing reads stdin')
    .addOption(
      new Option('--on-conflict <action>', 'what to do with an id that is taken')
        .choices(['error', 'skip', 'replace'])
        .default('error'),
    )
    .option('--json', 'print the report as one JSON document')
    .addHelpText(
      'after',
      `
Prints a report with the first lines that failed. Exits with 1 when any line failed; the others are imported.
Ctrl-C ends behind the last whole line that was read. With --on-conflict skip an import can be repeated safely.

Examples:
  dualstore collections import agent_tasks tasks.ndjson
  zcat tasks.ndjson.gz | dualstore collections import agent_tasks - --on-conflict skip
  dualstore collections import agent_tasks tasks.ndjson --url http://127.0.0.1:3000 --json`,
    )
    .action(async (collection: string, file: string | undefined, flags: ImportFlags) => {
      const input = await openInput(file)
      const { report, interrupted } = await withClient(
        flags,
        async (client, signal) => {
          const meter: Meter = { bytes: 0, lines: 0 }
          const progress = await showProgress({
            label: `importing ${collection}`,
            documents: () => meter.lines,
            done: () => meter.bytes,
            total: input.size,
          })
          try {
            const lines = Readable.from(wholeLines(input.source, meter, signal), { objectMode: false })
            const report = await client.importNdjson(collection, lines, flags.onConflict)
            progress.stop()
            await sayWhenMirrorWaits(client, report.created + report.replaced)
            return { report, interrupted: signal.aborted }
          } finally {
            progress.stop()
            input.source.destroy()
          }
        },
        { inOrder: true },
      )
      if (interrupted)
        say(`interrupted: ${number(report.received)} lines were imported as reported, the rest was not read`)
      if (report.failed > 0) process.exitCode = EXIT_FOUND
      if (interrupted) process.exitCode = EXIT_INTERRUPTED
      await print({ json: { ...report, interrupted }, text: reportTables(report) }, flags)
    })
  return addConnection(command)
}

interface Input {
  source: Readable
  /** In bytes; undefined when nobody knows. */
  size: number | undefined
}

/** @throws INVALID_REQUEST naming the file */
async function openInput(file: string | undefined): Promise<Input> {
  if (file === undefined && process.stdin.isTTY) {
    throw invalid('[file]', 'is missing; name a file, or give - to type the lines here')
  }
  if (file === undefined || file === '-') return { source: process.stdin, size: undefined }
  try {
    const about = await stat(file)
    if (about.isDirectory()) throw new Error('it is a directory')
    const handle = await open(file)
    return {
      source: handle.createReadStream({ highWaterMark: 256 * 1024 }),
      size: about.isFile() ? about.size : undefined,
    }
  } catch (error) {
    throw invalid(file, `cannot be read: ${(error as Error).message}`)
  }
}

function reportTables(report: ImportReport): Table[] {
  const { received, created, replaced, skipped, failed, errors } = report
  const counts: Table = {
    head: ['RECEIVED', 'CREATED', 'REPLACED', 'SKIPPED', 'FAILED'],
    rows: [[received, created, replaced, skipped, failed]],
  }
  if (errors.length === 0) return [counts]
  const rows = errors.map(({ line, id, field, message }) => [line, id, field, message])
  return [counts, { head: ['LINE', 'ID', 'FIELD', 'FAULT'], rows }]
}

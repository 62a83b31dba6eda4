import { Command } from 'commander'
import type { Ingester, IngesterOptions } from '../../../server/ingest/ingester.js'
import type { IngestStatus } from '../../../server/ingest/status.js'
import { addConnection, type ConnectionFlags, checkedUrl } from '../../client/open.js'
import { openSink } from '../../client/sink.js'
import { sayAbove, showIngest } from '../../ingest-progress.js'
import { Interrupted, interruptible, unlessAborted } from '../../interrupt.js'
import { sayWhenMirrorWaits } from '../../mirror-note.js'
import { print, printable, type Table } from '../../output.js'

type IngestFlags = ConnectionFlags & { from: string; directory?: string; once?: boolean; json?: boolean }

export function opencodeCommand(): Command {
  const command = new Command('opencode')
    .description('Follow an OpenCode server into opencode_events and session_messages')
    .helpOption('-h, --help', 'print this help')
    .option('--from <url>', 'the OpenCode server', 'http://127.0.0.1:4096')
    .option('--directory <path>', 'only what happens in this directory of it; otherwise everything')
    .option('--once', 'catch up with what it keeps, and end')
    .option('--json', 'print the status as NDJSON, every five seconds and at the end')
    .addHelpText(
      'after',
      `
Runs until SIGINT or SIGTERM, through restarts of either side, and can be ended and begun again at any time: what is
stored says where to go on, and nothing is stored twice. A password of the OpenCode server is given by
OPENCODE_SERVER_PASSWORD, its user by OPENCODE_SERVER_USERNAME.

--url names the dualstore server to write to, --from the OpenCode server to read from.

Examples:
  dualstore ingest opencode                                            into the local stores
  dualstore ingest opencode --from http://127.0.0.1:4096 --url http://127.0.0.1:3000
  dualstore ingest opencode --once --json`,
    )
    .action(async (flags: IngestFlags) => {
      const [{ createIngester }, { isProviderAway }, { createOpencodeProvider }] = await Promise.all([
        import('../../../server/ingest/ingester.js'),
        import('../../../server/ingest/apply.js'),
        import('../../../server/ingest/opencode.js'),
      ])
      const provider = createOpencodeProvider({
        url: checkedUrl(flags.from, '--from', 'the password goes into OPENCODE_SERVER_PASSWORD'),
        givenBy: '--from',
        password: process.env.OPENCODE_SERVER_PASSWORD || undefined,
        username: process.env.OPENCODE_SERVER_USERNAME || undefined,
        directory: flags.directory,
      })
      await interruptible(async (signal) => {
        // A wrong address is told before anything is opened; a server that is down may yet come.
        await unlessAborted(signal, provider.check(signal)).catch((error: unknown) => {
          if (flags.once || !isProviderAway(error)) throw error
        })
        const opened = await openSink(flags)
        try {
          const ingester = createIngester({
            provider,
            sink: opened.sink,
            log: lines,
            once: flags.once ?? false,
          })
          await watched(ingester, flags, signal)
          const { events, messages } = ingester.status()
          await sayWhenMirrorWaits(opened, events.stored + messages.written + messages.removed)
        } finally {
          await opened.close()
        }
      })
    })
  return addConnection(command)
}

/** Runs the ingester with its progress shown, and prints how it ended. */
async function watched(ingester: Ingester, flags: IngestFlags, signal: AbortSignal): Promise<void> {
  const progress = showIngest(() => ingester.status(), flags)
  try {
    await ingester.run(signal)
  } catch (error) {
    // Cut short, as was asked for: nothing of what the provider keeps is lost by that.
    if (flags.once && signal.aborted)
      throw new Interrupted('interrupted before all was read; begin again to go on')
    throw error
  } finally {
    progress.stop()
  }
  if (!flags.json) await print({ json: undefined, text: tables(ingester.status()) }, {})
}

/** What an operator should know, as lines on stderr. */
const line = (fields: object, message: string) => {
  const told = Object.entries(fields).map(([name, value]) => `${name}: ${String(value)}`)
  sayAbove(printable([message, ...told].join('; ')))
}
const lines: IngesterOptions['log'] = { debug: () => {}, info: line, warn: line, error: line }

function tables({ events, messages, reconnects }: IngestStatus): Table[] {
  const counts: Table = {
    head: ['WHAT', 'STORED', 'UNCHANGED', 'REMOVED', 'REFUSED'],
    rows: [
      ['events', events.stored, events.known, 0, events.refused],
      ['messages', messages.written, messages.unchanged, messages.removed, messages.refused],
    ],
  }
  const types = Object.entries(events.by_type).sort(([, a], [, b]) => b - a)
  const byType: Table = { head: ['TYPE', 'EVENTS'], rows: types }
  const again: Table = { head: ['RECONNECTS'], rows: [[reconnects]] }
  return types.length === 0 ? [counts, again] : [counts, byType, again]
}

import { Command, InvalidArgumentError, Option } from 'commander'
import type { Followed } from '../client/contract.js'
import { addConnection, type ConnectionFlags, withClient } from '../client/open.js'
import { Interrupted } from '../interrupt.js'
import { colourful, printable, say } from '../output.js'
import { writeLine } from '../write-line.js'

type TailFlags = ConnectionFlags & { since?: string; filter?: string; sessionId?: string; json?: boolean }
type Change = Extract<Followed, { item: unknown }>

export function tailCommand(): Command {
  const command = new Command('tail')
    .helpOption('-h, --help', 'print this help')
    .argument('[collection]', 'only of this collection; otherwise of all')
    .addOption(
      new Option('--since <position>', 'start behind this position instead of now').argParser(parsePosition),
    )
    .option('--filter <json>', 'only what matches, in a subset of the MongoDB query language')
    .option('--session-id <id>', 'only with this session_id')
    .option('--json', 'print each change as one line of JSON')
    .addHelpText(
      'after',
      `
When it is interrupted, the position to go on from is printed on stderr.

Examples:
  dualstore tail
  dualstore tail agent_tasks --filter '{"status": "failed"}' --url http://127.0.0.1:3000
  dualstore tail session_messages --since 5f0c2a91-4711 --json | jq .data.content`,
    )
    .action(async (collection: string | undefined, flags: TailFlags) => {
      await withClient(
        flags,
        async (client, signal) => {
          const { since, filter, sessionId } = flags
          const events = client.follow({
            collection,
            since,
            selection: {
              ...(filter !== undefined && { filter }),
              ...(sessionId !== undefined && { session_id: sessionId }),
            },
            signal,
            onTrouble: (reason) => say(`not connected, trying again: ${printable(reason)}`),
          })
          const line = flags.json ? jsonLine : humanLine
          let position = since
          let begun = false
          for await (const event of events) {
            if (event.type === 'ready' && !begun) {
              begun = true
              say(`following ${collection ?? 'all collections'} of ${client.where} from ${event.position} on`)
            }
            if (event.type === 'reset') sayReset(event)
            // A reader that has seen enough closes the pipe.
            if ('item' in event && !(await writeLine(process.stdout, line(event)))) break
            if ('position' in event) position = event.position ?? position
          }
          if (!signal.aborted) return
          throw new Interrupted(
            position === undefined ? 'interrupted' : `interrupted; go on with --since ${position}`,
          )
        },
        { inOrder: true },
      )
    })
  return addConnection(command)
}

const reasons: Readonly<Record<string, string>> = {
  gone: 'the log no longer reaches back to it',
  ahead: 'the log does not reach that far, as after the restore of a backup',
  other_log: 'it is of another log',
  unknown: 'it is no position',
}

function sayReset({ reason, requested, position }: Extract<Followed, { type: 'reset' }>): void {
  const why = reasons[reason] ?? printable(reason)
  say(`reset: cannot go on from ${printable(requested)} (${why}); changes may be missing before ${position}`)
}

/** The event as docs/streams.md has it. */
function jsonLine({ type, collection, item, timestamp, version, position }: Change): string {
  return JSON.stringify({ type, collection, data: item, timestamp, version, position })
}

const COLOURS: Readonly<Record<Change['type'], number>> = { insert: 32, update: 33, delete: 31 }
const WIDTH_OFF_TERMINAL = 200

/** Aligned and cut to the width of a terminal; tab-separated off it. */
function humanLine({ type, collection, item, timestamp, version }: Change): string {
  const { id, created_at: _created, updated_at: _updated, ...fields } = item as Record<string, unknown>
  const { stdout } = process
  const cells = [timestamp, type, collection, String(id), `v${version}`].map(printable)
  const text = printable(JSON.stringify(fields))
  if (!stdout.isTTY) return [...cells, cut(text, WIDTH_OFF_TERMINAL)].join('\t')
  const plain = cells.join(' ')
  const line = `${plain} ${cut(text, Math.max(20, stdout.columns - plain.length - 2))}`
  if (!colourful(stdout)) return line
  return line.replace(` ${type} `, ` \u001b[${COLOURS[type]}m${type}\u001b[39m `)
}

function cut(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length - 1).toWellFormed()}…` : text
}

function parsePosition(text: string): string {
  if (/^[0-9a-f]{8}-\d{1,15}$/.test(text)) return text
  throw new InvalidArgumentError('It must be a position such as 5f0c2a91-4711.')
}

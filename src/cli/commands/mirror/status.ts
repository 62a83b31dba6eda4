import { setTimeout as delay } from 'node:timers/promises'
import { stripVTControlCharacters } from 'node:util'
import { Command } from 'commander'
import type { MirrorStatus } from '../../../server/schemas/mirrors.js'
import { type MirrorsClient, withMirrors } from '../../client/mirrors.js'
import { addConnection, type ConnectionFlags } from '../../client/open.js'
import { mirrorLine, mirrorNotes, mirrorTable } from '../../mirror-lines.js'
import { print, say, tableText } from '../../output.js'
import { EXIT_FOUND } from '../../report.js'

type StatusFlags = ConnectionFlags & { watch?: boolean; json?: boolean }

const WATCH_MS = 1000

export function statusCommand(): Command {
  const command = new Command('status')
    .description('Tell how far each mirror is, who leads it and what keeps it')
    .helpOption('-h, --help', 'print this help')
    .option('--watch', 'look every second until it is interrupted')
    .option('--json', 'print one JSON document; with --watch one line of JSON a second')
    .addHelpText(
      'after',
      `
Exits with 1 when a mirror is down or lost. It asks PostgreSQL or any server: each gives the same answer.

Examples:
  dualstore mirror status
  dualstore mirror status --watch --url http://127.0.0.1:3000
  dualstore mirror status --json | jq '.mirrors[0].lag'`,
    )
    .action(async (flags: StatusFlags) => {
      await withMirrors(flags, async (client, signal) => {
        if (flags.watch) return watch(client, flags, signal)
        const overview = await client.status()
        if (overview.mirrors.some(isBad)) process.exitCode = EXIT_FOUND
        if (overview.mirrors.length === 0) say('nothing has been mirrored yet')
        await print({ json: overview, text: textOf(overview.mirrors) }, flags)
      })
    })
  return addConnection(command)
}

/** A picture that is drawn again and again on a terminal, else a line a mirror. An outage is told and waited out. */
async function watch(client: MirrorsClient, flags: StatusFlags, signal: AbortSignal): Promise<void> {
  let rows = 0
  while (!signal.aborted) {
    const shown = await client.status(signal).then(
      async (overview) => {
        if (flags.json) return JSON.stringify({ time: new Date().toISOString(), ...overview })
        return process.stdout.isTTY ? picture(overview.mirrors) : overview.mirrors.map(mirrorLine).join('\n')
      },
      (error: Error) => {
        if (!flags.json && process.stdout.isTTY) return `not reached: ${error.message}`
        say(`not reached, trying again: ${error.message}`)
        return ''
      },
    )
    if (signal.aborted) return
    if (process.stdout.isTTY && !flags.json) {
      // Up to the first line of the last picture, and everything below it is wiped.
      process.stdout.write(`${rows === 0 ? '' : `\u001b[${rows}A\r`}\u001b[0J${shown}\n`)
      rows = rowsOf(shown)
    } else if (shown !== '') process.stdout.write(`${shown}\n`)
    await delay(WATCH_MS, undefined, { signal }).catch(() => {})
  }
}

async function picture(mirrors: readonly MirrorStatus[]): Promise<string> {
  const parts = textOf(mirrors)
  const texts = await Promise.all(parts.map((part) => (typeof part === 'string' ? part : tableText(part))))
  return texts.join('\n')
}

/** The rows that a picture takes: a line that is longer than the terminal is wide takes several. */
function rowsOf(text: string): number {
  const { columns } = process.stdout
  const widths = stripVTControlCharacters(text)
    .split('\n')
    .map((line) => line.length)
  return widths.reduce((rows, width) => rows + Math.max(1, Math.ceil(width / columns)), 0)
}

function textOf(mirrors: readonly MirrorStatus[]) {
  return mirrors.length === 0 ? [] : [mirrorTable(mirrors), ...mirrorNotes(mirrors)]
}

function isBad({ state }: MirrorStatus): boolean {
  return state === 'down' || state === 'lost'
}

import type { IngestStatus } from '../server/ingest/status.js'
import { counted, number, printable, say } from './output.js'
import type { Progress } from './progress.js'

const DRAW_MS = 500
const LINE_MS = 5000
/** Back to the first column, and the line is empty. */
const WIPE = '\r\u001b[2K'

/**
 * Shows how far an ingester is: one line that is drawn again and again on a terminal, otherwise a line every few
 * seconds on stderr; with `json` the status as NDJSON on stdout, and once more at the end.
 */
export function showIngest(status: () => IngestStatus, { json }: { json?: boolean }): Progress {
  if (json) {
    const write = () =>
      process.stdout.write(`${JSON.stringify({ time: new Date().toISOString(), ...status() })}\n`)
    return every(LINE_MS, write, write)
  }
  if (!process.stderr.isTTY) return every(LINE_MS, () => say(lineOf(status())))
  const draw = () => process.stderr.write(WIPE + lineOf(status()).slice(0, process.stderr.columns - 1))
  return every(DRAW_MS, draw, () => process.stderr.write(WIPE))
}

/** Says something while progress is shown: in place of the line that is drawn, which comes again below. */
export function sayAbove(line: string): void {
  say(process.stderr.isTTY ? `${WIPE}${line}` : line)
}

function every(ms: number, work: () => void, last: () => void = () => {}): Progress {
  const timer = setInterval(work, ms)
  return {
    stop() {
      clearInterval(timer)
      last()
    },
  }
}

const states: Record<IngestStatus['state'], string> = {
  connecting: 'connecting',
  catching_up: 'catching up',
  following: 'following',
  waiting: 'waiting for the store',
  stopped: 'stopped',
}

function lineOf({
  state,
  from,
  events,
  messages,
  lag_ms,
  waiting,
  reconnects,
  last_error,
}: IngestStatus): string {
  return [
    `${states[state]} ${from}: ${counted(events.stored, 'event')} stored`,
    `${counted(messages.written, 'message')} written`,
    `${number(waiting)} waiting`,
    `lag ${number(lag_ms)} ms`,
    ...(reconnects > 0 ? [counted(reconnects, 'reconnect')] : []),
    ...(last_error === null ? [] : [printable(last_error)]),
  ].join(', ')
}

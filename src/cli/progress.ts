import { colourful, number, say } from './output.js'

/** How far something is. */
export interface Progress {
  /** Draws a last time and leaves the terminal as it was. */
  stop(): void
}

export interface ProgressOptions {
  /** "importing agent_tasks" */
  label: string
  /** Documents so far. */
  documents(): number
  /** What is done, in the unit of `total`. */
  done(): number
  /** All there is to do; undefined when nobody knows. */
  total: number | undefined
}

const DRAW_MS = 200
const LINE_MS = 5000

/** Shows progress on stderr: a bar on a terminal, else a line every few seconds. */
export async function showProgress(options: ProgressOptions): Promise<Progress> {
  const started = performance.now()
  const state = () => stateOf(options, (performance.now() - started) / 1000)
  if (!process.stderr.isTTY) {
    const timer = setInterval(() => say(lineOf(options.label, state())), LINE_MS)
    return { stop: () => clearInterval(timer) }
  }
  const { default: cliProgress } = await import('cli-progress')
  const { total, label } = options
  const colour = colourful(process.stderr) ? (text: string) => `\u001b[36m${text}\u001b[39m` : String
  const bar = new cliProgress.SingleBar({
    stream: process.stderr,
    format:
      total === undefined
        ? `${label}  {documents} documents  {rate}/s`
        : `${label} ${colour('{bar}')} {percentage}%  {documents} documents  {rate}/s  {left}`,
    hideCursor: true,
    // The command itself ends in order on a signal, and gives the cursor back then.
    gracefulExit: false,
    clearOnComplete: true,
  })
  bar.start(total ?? 0, 0, state())
  const draw = () => bar.update(Math.min(options.done(), total ?? Number.POSITIVE_INFINITY), state())
  const timer = setInterval(draw, DRAW_MS)
  return {
    stop() {
      clearInterval(timer)
      draw()
      bar.stop()
    },
  }
}

interface State {
  documents: string
  rate: string
  left: string
}

function stateOf({ documents, done, total }: ProgressOptions, seconds: number): State {
  const share = total === undefined || total === 0 ? 0 : Math.min(1, done() / total)
  return {
    documents: number(documents()),
    rate: number(Math.round(documents() / Math.max(seconds, 0.001))),
    left: share === 0 ? '' : share === 1 ? 'finishing' : `${duration(seconds / share - seconds)} left`,
  }
}

function lineOf(label: string, { documents, rate, left }: State): string {
  return `${label}: ${documents} documents, ${rate}/s${left && `, ${left}`}`
}

/** 75 seconds are "1m15s". */
export function duration(seconds: number): string {
  const whole = Math.round(seconds)
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  return hours > 0 ? `${hours}h${minutes}m` : minutes > 0 ? `${minutes}m${rest}s` : `${rest}s`
}

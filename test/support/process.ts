import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { execa } from 'execa'

const PROGRAM = fileURLToPath(new URL('../../dist/bin/dualstore.js', import.meta.url))

export interface ProgramOptions {
  /** Behind `serve`, such as ['--data-dir', directory]. The port is 0, and so a free one, unless given here. */
  flags?: readonly string[]
  /** The whole environment apart from PATH and HOME: nothing of the test run's own settings leaks in. */
  env?: Readonly<Record<string, string>>
  cwd?: string
  /** Another script instead of the built program; it is called with the same arguments. */
  script?: string
  /** "listening" does not ask for /health/ready, for a server whose stores are meant to be down. */
  until?: 'ready' | 'listening'
  /** How long the start may take, 30,000 by default. */
  timeoutMs?: number
  /** Opens stdin for `type`. */
  input?: boolean
}

export interface Exit {
  code: number | undefined
  signal: string | undefined
}

/** The real program in a process of its own. */
export interface Program {
  /** Where it listens, without a slash at the end: http://127.0.0.1:41234 */
  url: string
  pid: number
  /** What it has printed so far. */
  stdout(): string
  stderr(): string
  /** The JSON log lines of stdout and stderr so far; other lines are left out. */
  logs(): Record<string, unknown>[]
  /** Writes to its stdin, when that was opened. */
  type(text: string): void
  /** The next line of stdout, from now on, that starts so; rejects when the program ends first. */
  nextLine(start: string): Promise<string>
  /** Sends a signal and returns at once. */
  signal(name: NodeJS.Signals): void
  /** SIGTERM, then its exit; rejects with its output when it does not end within the time. */
  stop(timeoutMs?: number): Promise<Exit>
  /** kill -9, then its end. What it started itself lives on. */
  kill9(): Promise<Exit>
  /** Its end, whatever the cause. */
  exit: Promise<Exit>
}

/**
 * Starts `dualstore serve` and resolves when it serves.
 * @throws with everything it printed, when it ends early or is not ready in time.
 */
export async function startProgram(options: ProgramOptions = {}): Promise<Program> {
  const flags = options.flags ?? []
  const port = flags.includes('--port') ? [] : ['--port', '0']
  const child = execa('node', [options.script ?? PROGRAM, 'serve', ...port, ...flags], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...options.env },
    extendEnv: false,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    stdin: options.input ? 'pipe' : 'ignore',
    reject: false,
    buffer: false,
  })
  const printed = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    printed.stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    printed.stderr += text
  })
  const output = () => `--- stdout\n${printed.stdout}\n--- stderr\n${printed.stderr}`
  const exit: Promise<Exit> = child.then((result) => ({ code: result.exitCode, signal: result.signal }))
  const ended = async (timeoutMs: number): Promise<Exit> => {
    const end = await within(timeoutMs, exit)
    if (end !== undefined) return end
    child.kill('SIGKILL')
    throw new Error(`the program did not end within ${timeoutMs} ms\n${output()}`)
  }
  const program: Program = {
    url: '',
    pid: child.pid ?? 0,
    stdout: () => printed.stdout,
    stderr: () => printed.stderr,
    logs: () => `${printed.stdout}\n${printed.stderr}`.split('\n').flatMap(jsonLine),
    type: (text) => void child.stdin?.write(text),
    nextLine: (start) => lineOf(child.stdout, start, () => printed.stdout),
    signal: (name) => {
      child.kill(name)
    },
    stop: (timeoutMs = 15_000) => {
      child.kill('SIGTERM')
      return ended(timeoutMs)
    },
    kill9: () => {
      child.kill('SIGKILL')
      return ended(5000)
    },
    exit,
  }
  const timeoutMs = options.timeoutMs ?? 30_000
  const abandon = new AbortController()
  const early = exit.then((end) => {
    throw new Error(`the program ended before it was ready (${end.code ?? end.signal})\n${output()}`)
  })
  early.catch(() => {})
  const started = async () => {
    program.url = await listeningUrl(child.stdout, child.stderr, printed)
    while (options.until !== 'listening' && !abandon.signal.aborted && !(await isReady(program.url)))
      await delay(25)
    return true
  }
  try {
    if ((await within(timeoutMs, Promise.race([started(), early]))) === undefined) {
      throw new Error(`the program was not ready within ${timeoutMs} ms\n${output()}`)
    }
    return program
  } catch (error) {
    child.kill('SIGKILL')
    await exit
    throw error
  } finally {
    abandon.abort()
  }
}

/** The address in the log line "… listens on http://…", taken from whichever stream it appears on. */
function listeningUrl(
  stdout: NodeJS.ReadableStream,
  stderr: NodeJS.ReadableStream,
  printed: Readonly<{ stdout: string; stderr: string }>,
): Promise<string> {
  return new Promise((found) => {
    const look = () => {
      const match = /listen(?:s|ing)[^\n]*?(https?:\/\/[\w.:[\]-]+:\d+)/i.exec(
        `${printed.stdout}\n${printed.stderr}`,
      )
      if (match?.[1] === undefined) return
      stdout.off('data', look)
      stderr.off('data', look)
      found(match[1])
    }
    stdout.on('data', look)
    stderr.on('data', look)
    look()
  })
}

/** The first whole line behind what was printed when it is called. */
function lineOf(stdout: NodeJS.ReadableStream, start: string, printed: () => string): Promise<string> {
  const from = printed().length
  return new Promise((resolve, reject) => {
    const look = () => {
      const lines = printed().slice(from).split('\n').slice(0, -1)
      const line = lines.find((candidate) => candidate.startsWith(start))
      if (line === undefined) return
      stdout.off('data', look).off('end', fail)
      resolve(line)
    }
    const fail = () => reject(new Error(`ended without printing a line that starts with ${start}`))
    stdout.on('data', look).once('end', fail)
  })
}

async function isReady(url: string): Promise<boolean> {
  // A fresh connection each time: a pooled one would stay open behind the test.
  const answer = await fetch(`${url}/health/ready`, {
    headers: { connection: 'close' },
    signal: AbortSignal.timeout(2000),
  }).catch(() => undefined)
  await answer?.arrayBuffer()
  return answer?.ok === true
}

/** The promise's value, or undefined when the time is up first. */
async function within<T>(timeoutMs: number, promise: Promise<T>): Promise<T | undefined> {
  const timer = new AbortController()
  const timeout = delay(timeoutMs, undefined, { signal: timer.signal }).catch(() => undefined)
  return await Promise.race([promise, timeout]).finally(() => timer.abort())
}

function jsonLine(line: string): Record<string, unknown>[] {
  if (!line.startsWith('{')) return []
  try {
    return [JSON.parse(line) as Record<string, unknown>]
  } catch {
    return []
  }
}

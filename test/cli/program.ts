import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { execa } from 'execa'
import { end, endWithUs } from '../support/child.js'
import { atEndOfFile } from '../support/leaks.js'

export const PROGRAM = fileURLToPath(new URL('../../dist/bin/dualstore.js', import.meta.url))
const RESIDENT = fileURLToPath(new URL('../support/fixtures/resident.mjs', import.meta.url))
/** Ends what a command of a resident process prints; no command prints it. */
const MARK = '\0the end\0'

export interface RunOptions {
  env?: Readonly<Record<string, string>>
  input?: string
  cwd?: string
}

/** What one command line led to. */
export interface Ran {
  code: number | undefined
  stdout: string
  stderr: string
}

/** A path in the system's temporary directory where nothing is: PostgreSQL's own user must be able to enter it. */
export function freshPath(name: string): string {
  return join(tmpdir(), `dualstore-cli-${name}-${process.pid}-${Date.now().toString(36)}`)
}

/** The whole environment: nothing of the test run's own settings leaks in. */
export function environment(env: Readonly<Record<string, string>> = {}): Record<string, string> {
  const { PATH = '', HOME = '' } = process.env
  return { PATH, HOME, TERM: 'xterm', ...env }
}

/**
 * Runs a command line of the built program to its end, without a terminal. It shares a process with others before and
 * after it, because loading the program costs ten times what most commands do; never with one that runs meanwhile.
 * Fails when it leaves something open, for which a process of its own would wait.
 */
export async function dualstore(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const resident = idle.pop() ?? (await startResident())
  const ran = await resident({
    args: ['node', PROGRAM, ...args],
    env: environment(options.env),
    cwd: options.cwd,
    input: options.input ?? '',
  })
  idle.push(resident)
  return ran
}

/** The same in a process of its own. */
export async function dualstoreAlone(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { exitCode, stdout, stderr } = await execa('node', [PROGRAM, ...args], {
    env: environment(options.env),
    extendEnv: false,
    reject: false,
    stripFinalNewline: false,
    ...(options.cwd !== undefined && { cwd: options.cwd }),
    input: options.input ?? '',
  })
  return { code: exitCode, stdout, stderr }
}

interface CommandLine {
  args: readonly string[]
  env: Readonly<Record<string, string>>
  cwd: string | undefined
  input: string
}
type Resident = (line: CommandLine) => Promise<Ran>

const idle: Resident[] = []

/** Starts a process that runs command lines; it is ended after the file's last test. */
async function startResident(): Promise<Resident> {
  const child = fork(RESIDENT, { env: environment(), silent: true })
  endWithUs(child)
  atEndOfFile(() => end(child, 'SIGTERM'))
  const printed = { stdout: '', stderr: '' }
  let marked = 0
  let told: Answer | undefined
  let finish: ((answer: Answer) => void) | undefined
  const look = () => {
    if (told === undefined || marked < 2) return
    finish?.(told)
  }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.setEncoding('utf8').on('data', (text: string) => {
      printed[name] += text
      if (printed[name].endsWith(MARK)) {
        printed[name] = printed[name].slice(0, -MARK.length)
        marked++
      }
      look()
    })
  }
  await once(child, 'message')
  child.on('message', (answer: Answer) => {
    told = answer
    look()
  })
  const ended = once(child, 'exit').then(([code, signal]) => {
    throw new Error(`the program ended by itself (${code ?? signal})\n${printed.stdout}\n${printed.stderr}`)
  })
  ended.catch(() => {})
  return async (line) => {
    Object.assign(printed, { stdout: '', stderr: '' })
    marked = 0
    told = undefined
    const answered = new Promise<Answer>((resolve) => {
      finish = resolve
    })
    child.send({ ...line, mark: MARK })
    const { code, left } = await Promise.race([answered, ended])
    if (left !== '') throw new Error(`"${line.args.slice(2).join(' ')}" leaves open: ${left}`)
    return { code, ...printed }
  }
}

interface Answer {
  code: number
  left: string
}

/** A program that is running. */
export interface Running {
  pid: number
  /** Resolves as soon as the output so far, stdout and stderr together, matches; rejects when it ends before. */
  seen(pattern: RegExp): Promise<RegExpExecArray>
  type(text: string): void
  signal(name: NodeJS.Signals): void
  ended: Promise<{ code: number | undefined; output: string }>
}

export interface LaunchOptions extends Omit<RunOptions, 'input'> {
  /** On a pseudo terminal, made by Python. */
  terminal?: boolean
  /** "closed": whoever reads stdout goes away at once. */
  stdout?: 'closed'
}

/** Starts a command without waiting for it. */
export function launch(args: readonly string[], options: LaunchOptions = {}): Running {
  const words = ['node', PROGRAM, ...args]
  const [file, ...rest] = options.terminal ? ['python3', '-c', PTY, ...words] : words
  const child = execa(file as string, rest, {
    env: environment(options.env),
    extendEnv: false,
    reject: false,
    buffer: false,
    ...(options.cwd !== undefined && { cwd: options.cwd }),
  })
  if (options.stdout === 'closed') child.stdout.destroy()
  let output = ''
  let over = false
  const waiters = new Set<() => void>()
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
      for (const wake of waiters) wake()
    })
  }
  const ended = child.then(({ exitCode }) => {
    over = true
    for (const wake of waiters) wake()
    return { code: exitCode, output }
  })
  return {
    pid: child.pid as number,
    type: (text) => void child.stdin.write(text),
    signal: (name) => void child.kill(name),
    ended,
    seen: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const match = pattern.exec(output)
          if (match === null && !over) return
          waiters.delete(look)
          if (match !== null) resolve(match)
          else reject(new Error(`ended without printing ${pattern}:\n${output}`))
        }
        waiters.add(look)
        look()
      }),
  }
}

/** Lines of an NDJSON file or text, parsed. */
export function ndjson(text: string): Record<string, unknown>[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
}

export function ndjsonFile(file: string): Record<string, unknown>[] {
  return ndjson(readFileSync(file, 'utf8'))
}

// Copies its own input and output to and from a terminal of 120 columns, and ends as the program on it ended.
const PTY = `
import fcntl, os, pty, select, struct, sys, termios
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 40, 120, 0, 0))
sources = [terminal, 0]
while True:
    ready = select.select(sources, [], [])[0]
    if 0 in ready:
        typed = os.read(0, 4096)
        if typed:
            os.write(terminal, typed)
        else:
            sources.remove(0)
    if terminal in ready:
        try:
            printed = os.read(terminal, 4096)
        except OSError:
            break
        if not printed:
            break
        os.write(1, printed)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`

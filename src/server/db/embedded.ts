import { resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { DualstoreError } from '../errors.js'
import {
  type Cluster,
  failure,
  launch,
  openCluster,
  postmaster,
  START_TIMEOUT_MS,
  shutDown,
  USER,
} from './embedded-cluster.js'
import { codeOf, isUnavailable, UNIQUE_VIOLATION } from './sqlstate.js'

const DATABASE = 'dualstore'
// Every process that uses the server holds this lock, shared, on a connection of its own. Who can have it alone is
// the only one there: the first to come, or the last to leave.
const USERS_LOCK = 7_305_805_164
/** A pid file whose port refuses connections for this long may be of a process that only has the same pid. */
const STALE_AFTER_MS = 1000

/** A PostgreSQL server that runs beside the program, from binaries that npm installed. */
export interface EmbeddedServer {
  /** Connection string for it, loopback only, with its random password. */
  url: string
  /** True when no other process used the server: this one started it, or adopted it from one that was killed. */
  owner: boolean
  /** Stops the server, unless another process uses it; closing twice is the same as once. */
  close(): Promise<void>
}

/**
 * Starts the embedded PostgreSQL under `<dataDir>/postgres`, creating the cluster on first use.
 *
 * A server that is already running there is used instead of starting a second one: PostgreSQL's own pid file is the
 * guard. Several processes may share it (a server and a command beside it); the last one to close stops it, and one
 * that is killed does not count. So nobody loses the server while using it, and it does not outlive its users.
 * @throws EMBEDDED_STORE with what to do, when binaries, permissions or the cluster do not allow a start.
 */
export async function startEmbedded(dataDir: string, { maxConnections = 100 } = {}): Promise<EmbeddedServer> {
  const cluster = await openCluster(resolve(dataDir), maxConnections)
  const { claim, port, owner } = await join(cluster)
  await ensureDatabase(claim)
  let closing: Promise<void> | undefined
  return {
    url: urlOf(cluster, port, DATABASE),
    owner,
    close: () => {
      closing ??= leave(cluster, claim)
      return closing
    },
  }
}

interface Connected {
  claim: pg.Client
  port: number
}

/** Connects, starting the server when it does not run, and counts this process among its users. */
async function join(cluster: Cluster): Promise<Connected & { owner: boolean }> {
  const deadline = Date.now() + START_TIMEOUT_MS
  for (;;) {
    const connected = await connect(cluster, deadline)
    const { claim } = connected
    try {
      const owner = await locked(claim, sql.tryAlone)
      // Held by another alone: it is just coming or just leaving, and then it stops the server.
      if (owner || (await locked(claim, sql.tryShared))) {
        if (owner) await locked(claim, sql.aloneToShared)
        return { ...connected, owner }
      }
      await claim.end()
    } catch (cause) {
      await claim.end().catch(() => {})
      if (Date.now() > deadline) throw failure('the embedded PostgreSQL does not stay up', cause)
    }
    await delay(15)
  }
}

/** Stops the server when nobody else uses it. */
async function leave(cluster: Cluster, claim: pg.Client): Promise<void> {
  let session: pg.Client | undefined = claim
  try {
    await locked(claim, sql.giveUpShared)
  } catch {
    // The connection is gone, and the lock with it; the server may have restarted its sessions or be gone itself.
    await claim.end().catch(() => {})
    session = await connectOnce(cluster).then(
      (connected) => connected?.claim,
      () => undefined,
    )
  }
  if (session === undefined) return
  const last = await locked(session, sql.tryAlone).catch(() => false)
  if (last) await shutDown(cluster)
  await session.end().catch(() => {})
}

const sql = {
  tryAlone: 'SELECT pg_try_advisory_lock($1) AS done',
  tryShared: 'SELECT pg_try_advisory_lock_shared($1) AS done',
  aloneToShared: 'SELECT pg_try_advisory_lock_shared($1) AND pg_advisory_unlock($1) AS done',
  giveUpShared: 'SELECT pg_advisory_unlock_shared($1) AS done',
}

async function locked(on: pg.Client, statement: string): Promise<boolean> {
  const { rows } = await on.query<{ done: boolean }>(statement, [USERS_LOCK])
  return rows[0]?.done === true
}

/** Connects as soon as the server answers; crash recovery after an unclean stop may take a while. */
async function connect(cluster: Cluster, deadline: number): Promise<Connected> {
  let refusedSince: number | undefined
  for (;;) {
    try {
      const connected = await connectOnce(cluster)
      if (connected !== undefined) return connected
      await launch(cluster)
      refusedSince = undefined
    } catch (cause) {
      if (cause instanceof DualstoreError) throw cause
      // Starting, recovering or stopping; anything else will not be better later.
      if (!isUnavailable(cause) || Date.now() > deadline) {
        throw failure('the embedded PostgreSQL does not accept connections', cause)
      }
      refusedSince = codeOf(cause) === 'ECONNREFUSED' ? (refusedSince ?? Date.now()) : undefined
      if (refusedSince !== undefined && Date.now() - refusedSince > STALE_AFTER_MS) {
        // PostgreSQL itself tells a pid file that is stale from one that is not, and gives way to a running server.
        await launch(cluster)
        refusedSince = undefined
      }
      await delay(15)
    }
  }
}

/** A connection to the running server; undefined when none runs. */
async function connectOnce(cluster: Cluster): Promise<Connected | undefined> {
  const running = await postmaster(cluster.directory)
  if (running === undefined) return undefined
  const claim = new pg.Client({
    connectionString: urlOf(cluster, running.port, 'postgres'),
    application_name: 'dualstore embedded',
    keepAlive: true,
  })
  claim.on('error', () => {})
  try {
    await claim.connect()
    return { claim, port: running.port }
  } catch (error) {
    await claim.end().catch(() => {})
    throw error
  }
}

function urlOf(cluster: Cluster, port: number, database: string): string {
  return `postgresql://${USER}:${cluster.password}@127.0.0.1:${port}/${database}`
}

async function ensureDatabase(admin: pg.Client): Promise<void> {
  const { rowCount } = await admin.query('SELECT FROM pg_database WHERE datname = $1', [DATABASE])
  if (rowCount !== 0) return
  await admin.query(`CREATE DATABASE ${pg.escapeIdentifier(DATABASE)}`).catch((error: { code?: string }) => {
    // 42P04 duplicate_database, or a unique violation: another process made it at the same moment.
    if (error.code !== '42P04' && error.code !== UNIQUE_VIOLATION) throw error
  })
}

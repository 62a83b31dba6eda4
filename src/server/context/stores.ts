import { join } from 'node:path'
import type { Config } from '../config/index.js'
import { type EmbeddedServer, startEmbedded } from '../db/embedded.js'
import { serversOf } from '../db/hosts.js'
import { availabilityOf, openPool, type Pool, query } from '../db/pool.js'
import { codeOf, isUnavailable, storeError } from '../db/sqlstate.js'
import { DualstoreError } from '../errors.js'
import type { Log } from '../followers/contract.js'
import { MIRROR_FOLLOWER } from '../followers/mirror.js'
import type { Mirror } from '../mirror/contract.js'
import { type GuardedMirror, guardMirror } from '../mirror/guarded.js'
import type { Counters } from '../services/metrics/counters.js'
import { readFollowers } from '../store/positions.js'

/**
 * Opens PostgreSQL, the embedded one unless there is a URL.
 * @param embedded The embedded one, when it is starting already.
 * @throws STORE_UNAVAILABLE that says where and why
 */
export async function openDatabase(
  config: Config,
  log: Log,
  onClose: (close: () => Promise<void>) => void,
  embedded?: Promise<EmbeddedServer>,
): Promise<Pool> {
  let url = config.databaseUrl
  if (url === undefined) {
    const server = await (embedded ?? startEmbedded(config.dataDir))
    onClose(() => server.close())
    log.warn({ dataDir: config.dataDir }, 'using the embedded PostgreSQL; set DATABASE_URL to use your own')
    url = server.url
  }
  const pool = openPool({
    url,
    size: config.databasePoolSize,
    connectTimeoutMs: config.databaseConnectTimeoutMs,
    statementTimeoutMs: config.databaseStatementTimeoutMs,
    applicationName: 'dualstore',
    onIdleError: (err) => log.warn({ err }, 'an idle PostgreSQL connection broke'),
    onAvailability: (fields, message) => log.warn(fields, message),
  })
  onClose(() => pool.end())
  const reach = serversOf(url).length > 1 ? availabilityOf(pool).find() : query(pool, 'SELECT 1')
  await reach.catch((error: unknown) => {
    throw unreachable(url, storeError(error))
  })
  return pool
}

/** An operator is told which PostgreSQL and why; requests, later on, are not. */
function unreachable(url: string, error: unknown): unknown {
  const servers = serversOf(url)
  if (!isUnavailable(error) || !servers.every((server) => URL.canParse(server))) return error
  const where = servers
    .map((server) => new URL(server))
    .map(({ hostname, port, pathname }) => `${hostname || 'localhost'}:${port || 5432}${pathname}`)
    .join(' or ')
  const reason = codeOf(error) ?? (error as Error).message
  return new DualstoreError(
    'STORE_UNAVAILABLE',
    `PostgreSQL at ${where} cannot be reached (${reason}): is it running, and is DATABASE_URL right?`,
    { cause: error },
  )
}

/** Opens the mirror. The implementations are loaded when they are chosen: no driver is needed for the other. */
export async function openMirror(config: Config, log: Log): Promise<Mirror> {
  if (config.mongodbUri === undefined) {
    log.warn(
      { dataDir: config.dataDir },
      'using the embedded mirror; set MONGODB_URI to mirror into a MongoDB',
    )
    const { openEmbeddedMirror } = await import('../mirror/embedded.js')
    return openEmbeddedMirror({ directory: join(config.dataDir, 'mirror') })
  }
  const { openMongoMirror } = await import('../mirror/mongo.js')
  return openMongoMirror({
    uri: config.mongodbUri,
    database: config.mongodbDatabase,
    prefix: config.agentName,
    timeoutMs: config.mirrorTimeoutMs,
    log,
  })
}

/** An embedded mirror is open in the process that leads it and in no other. */
export async function canReachMirror(
  pool: Pool,
  mirror: Mirror | undefined,
  instance: string,
): Promise<boolean> {
  if (mirror?.kind !== 'embedded') return true
  const leader = (await readFollowers(pool)).find(({ id, led }) => id === MIRROR_FOLLOWER && led)?.leader
  return leader === undefined || leader === instance
}

/** A mirror that is there says so quickly; one that takes longer is as good as away for whoever reads it. */
const PING_MS = 1000

export function guard(mirror: Mirror, log: Log, { applied }: Counters): GuardedMirror {
  return guardMirror(mirror, { pingMs: PING_MS, log, onApplied: applied })
}

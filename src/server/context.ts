import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { CHANGES_CHANNEL, COLLECTIONS_CHANNEL, createHints, KEYS_CHANNEL } from './changes/hints.js'
import { readHead } from './changes/read.js'
import { createClosers } from './closing.js'
import { authIsOn, type Config, issuerOf } from './config/index.js'
import { startEmbedded } from './db/embedded.js'
import { listen } from './db/listen.js'
import { migrate, requireMigrated } from './db/migrate.js'
import { breakConnections, openPool, type Pool, query } from './db/pool.js'
import { codeOf, isUnavailable } from './db/sqlstate.js'
import { retrying } from './db/transaction.js'
import { DualstoreError } from './errors.js'
import type { Log } from './followers/contract.js'
import { createLeased } from './followers/leased.js'
import { createMirrorFollower } from './followers/mirror.js'
import { createProgress } from './followers/progress.js'
import { createTail } from './followers/tail.js'
import type { Services } from './ingest/service-sink.js'
import type { Mirror } from './mirror/contract.js'
import { type AuditService, createAuditService } from './services/audit.js'
import type { Authenticator } from './services/authenticator.js'
import { type CollectionService, createCollectionService, ensureShipped } from './services/collections.js'
import { createConsistency } from './services/consistency.js'
import { createDocumentAuditService, type DocumentAuditService } from './services/document-audit.js'
import { createDocumentService, type DocumentService } from './services/documents.js'
import { createGatherer, refusedRow } from './services/gatherer.js'
import { createIssuer } from './services/issuer.js'
import { remoteKeys } from './services/jwks.js'
import { createKeyCache } from './services/key-cache.js'
import { createKeyUsage } from './services/key-usage.js'
import { createKeyService, type KeyService } from './services/keys.js'
import { createListingService, type ListingService } from './services/listing.js'
import { unrestricted } from './services/principal.js'
import { createRegistry } from './services/registry.js'
import { createStatusService, type StatusService } from './services/status.js'
import { createStreamService, type StreamService } from './services/streams.js'
import { createTokenSecrets } from './services/token-secrets.js'
import { createTokenService, type TokenCodec, type TokenService } from './services/tokens.js'
import { createTransferService, type TransferService } from './services/transfer.js'
import { createWriter } from './services/writer.js'
import { forgetIdempotencyKeys, writeDocuments } from './store/documents.js'

/** Everything opened and wired: what the HTTP routes and the CLI work with. */
export interface Context {
  config: Config
  log: Log
  documents: DocumentService
  listing: ListingService
  collections: CollectionService
  transfer: TransferService
  streams: StreamService
  documentAudit: DocumentAuditService
  status: StatusService
  keys: KeyService
  audit: AuditService
  /** This server's own tokens, once there is what signs and verifies them. */
  tokensWith(codec: TokenCodec): TokenService
  /** Takes the tokens of the identity provider; undefined when there is none. */
  issuer: Authenticator | undefined
  mirror: Mirror | undefined
  /** Starts what follows the log and keeps house; only a server does. */
  startFollowers(): void
  /** Lets what is gathered finish, stops followers, closes both stores. Once; keeps the first error. */
  close(): Promise<void>
}

const CHANNELS = [CHANGES_CHANNEL, COLLECTIONS_CHANNEL, KEYS_CHANNEL]
const REGISTRY_REFRESH_MS = 1000
const HOUSEKEEPING_MS = 60_000
const KEYS_POLL_MS = 500
const TOKEN_SECRETS_REFRESH_MS = 2000
const KEY_USAGE_MS = 5000

export interface OpenOptions {
  /**
   * Which database may be brought to this program's version: any, as a server does, or only the embedded one. Somebody
   * else's is migrated when its operator says so, not because somebody looked at it.
   */
  migrate: 'any' | 'embedded'
}

/** The composition root. @throws whatever keeps PostgreSQL from being opened; a mirror that is down does not. */
export async function openContext(
  config: Config,
  log: Log,
  options: OpenOptions = { migrate: 'any' },
): Promise<Context> {
  const closers = createClosers()
  try {
    const { url, pool } = await openDatabase(config, log, closers.add)
    const mayMigrate = options.migrate === 'any' || config.databaseUrl === undefined
    await (mayMigrate ? migrate(pool) : requireMigrated(pool))
    await ensureShipped(pool)
    const { epoch, position } = await readHead(pool)

    const hints = createHints(pool)
    closers.add(hints.stop)
    const registry = createRegistry(pool, log)
    await registry.refresh()

    const mirror = config.dualWriteEnabled ? await openMirror(config, log) : undefined
    if (mirror !== undefined) closers.add(() => mirror.close())
    const progress = mirror && createProgress()

    const gatherer = createGatherer({
      run: (writes) => retrying(() => writeDocuments(pool, writes)),
      refuse: refusedRow,
    })
    closers.add(() => gatherer.drain())
    const writer = createWriter({ pool, gatherer })
    const consistency = createConsistency({
      pool,
      epoch,
      defaultLevel: config.dualWriteConsistency,
      waitTimeoutMs: config.waitTimeoutMs,
      mirror: progress,
    })
    const listing = createListingService({ pool, registry, consistency, mirror })
    const tail = createTail({
      pool,
      epoch,
      hints,
      log,
      pollMs: config.ssePollingInterval ?? config.followPollMs,
    })
    closers.add(() => tail.stop())
    const keyCache = createKeyCache({ pool })
    const keyUsage = createKeyUsage(pool)
    const keys = createKeyService({ pool, cache: keyCache, usage: keyUsage })
    const tokenSecrets = createTokenSecrets({
      pool,
      rotationMs: config.tokenRotationMs,
      clockSkewMs: config.tokenClockSkewMs,
    })
    const streams = createStreamService({
      pool,
      registry,
      listing,
      tail,
      log,
      heartbeatMs: config.sseHeartbeatInterval,
      maxClients: config.streamMaxConnections,
      maxClientsPerOwner: config.streamMaxConnectionsPerAddress,
      isValid: keys.stands,
      confirm: keys.confirm,
      onAccessChange: keys.onChange,
    })
    closers.add(() => streams.close())
    log.debug({ epoch, position }, 'context is open')
    const instance = `${process.pid}-${randomUUID()}`
    const documents = createDocumentService({ pool, registry, writer, hints, consistency, mirror })
    const transfer = createTransferService({ pool, registry, listing, writer, hints })

    return {
      config,
      log,
      mirror,
      documents,
      listing,
      collections: createCollectionService({ pool, registry, hints }),
      transfer,
      streams,
      documentAudit: createDocumentAuditService({ pool, epoch }),
      status: createStatusService({ pool, registry, mirror, progress }),
      keys,
      audit: createAuditService(pool),
      tokensWith: (codec) =>
        createTokenService({
          pool,
          secrets: tokenSecrets,
          codec,
          keys,
          lifetimeMs: config.tokenLifetimeMs,
          clockSkewMs: config.tokenClockSkewMs,
        }),
      issuer: openIssuer(config, log),
      startFollowers() {
        const listener = listen({
          url,
          channels: CHANNELS,
          onNotification: (channel) => hints.received(channel),
          onConnected: () => {
            for (const channel of CHANNELS) hints.received(channel)
          },
          onError: (err) => log.warn({ err }, 'cannot listen for notifications; polling instead'),
          onSilence: () => {
            log.error({}, 'PostgreSQL does not answer; breaking its connections')
            breakConnections(pool)
          },
        })
        closers.add(() => listener.stop())
        closers.add(hints.on(COLLECTIONS_CHANNEL, () => void registry.refresh().catch(() => {})))
        closers.add(registry.watch(REGISTRY_REFRESH_MS))
        if (authIsOn(config)) {
          closers.add(hints.on(KEYS_CHANNEL, () => void keyCache.check().catch(() => {})))
          closers.add(keyCache.watch(KEYS_POLL_MS))
          closers.add(keyUsage.watch(KEY_USAGE_MS))
          closers.add(tokenSecrets.watch(TOKEN_SECRETS_REFRESH_MS))
        }
        closers.add(keepHouse(pool, config.idempotencyTtlMs, log))
        if (config.ingestOpencodeUrl !== undefined) {
          const ingesting = createLeased({
            id: 'ingest-opencode',
            instance,
            pool,
            log,
            pollMs: config.followPollMs,
            work: (signal) => ingestOpencode(config, log, { documents, listing, transfer }, signal),
          })
          ingesting.run()
          closers.add(() => ingesting.stop())
        }
        if (mirror === undefined || progress === undefined) return
        const follower = createMirrorFollower({
          instance,
          pool,
          hints,
          log,
          progress,
          mirror,
          definition: registry.definition,
          timeoutMs: config.mirrorTimeoutMs,
          pollMs: config.followPollMs,
        })
        follower.run()
        closers.add(() => follower.stop())
      },
      close: closers.close,
    }
  } catch (error) {
    await closers.close().catch(() => {})
    throw error
  }
}

/** The database alone, for work that must not migrate it first; everything is closed when `work` is done. */
export async function withDatabase<T>(
  config: Config,
  log: Log,
  work: (pool: Pool) => Promise<T>,
): Promise<T> {
  const closers = createClosers()
  try {
    return await work((await openDatabase(config, log, closers.add)).pool)
  } finally {
    await closers.close()
  }
}

async function openDatabase(
  config: Config,
  log: Log,
  onClose: (close: () => Promise<void>) => void,
): Promise<{ url: string; pool: Pool }> {
  let url = config.databaseUrl
  if (url === undefined) {
    const server = await startEmbedded(config.dataDir)
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
  })
  onClose(() => pool.end())
  await query(pool, 'SELECT 1').catch((error: unknown) => {
    throw unreachable(url, error)
  })
  return { url, pool }
}

/** An operator is told which PostgreSQL and why; requests, later on, are not. */
function unreachable(url: string, error: unknown): unknown {
  if (!isUnavailable(error) || !URL.canParse(url)) return error
  const { hostname, port, pathname } = new URL(url)
  const where = `${hostname || 'localhost'}:${port || 5432}${pathname}`
  const reason = codeOf(error) ?? (error as Error).message
  return new DualstoreError(
    'STORE_UNAVAILABLE',
    `PostgreSQL at ${where} cannot be reached (${reason}): is it running, and is DATABASE_URL right?`,
    { cause: error },
  )
}

function openIssuer(config: Config, log: Log): Authenticator | undefined {
  const told = issuerOf(config)
  if (told === undefined) return undefined
  const { issuer, audience, jwksUrl, roleNames } = told
  const { jwtRoleClaim: role, jwtScopesClaim: scopes, jwtRowsClaim: rows, tokenClockSkewMs } = config
  return createIssuer({
    issuer,
    audience,
    keys: remoteKeys({
      url: jwksUrl,
      onFailure: (err) =>
        log.warn({ err }, 'the keys of the issuer cannot be read; its tokens are answered with 503'),
    }),
    mapping: { role, roleNames, scopes, rows },
    clockSkewMs: tokenClockSkewMs,
  })
}

// The implementations are loaded when they are chosen: neither driver is needed for the other, nor by --help.
async function openMirror(config: Config, log: Log): Promise<Mirror> {
  if (config.mongodbUri === undefined) {
    log.warn(
      { dataDir: config.dataDir },
      'using the embedded mirror; set MONGODB_URI to mirror into a MongoDB',
    )
    const { openEmbeddedMirror } = await import('./mirror/embedded.js')
    return openEmbeddedMirror({ directory: join(config.dataDir, 'mirror') })
  }
  const { openMongoMirror } = await import('./mirror/mongo.js')
  return openMongoMirror({
    uri: config.mongodbUri,
    database: config.mongodbDatabase,
    prefix: config.agentName,
    timeoutMs: config.mirrorTimeoutMs,
    log,
  })
}

async function ingestOpencode(
  config: Config,
  log: Log,
  services: Services,
  signal: AbortSignal,
): Promise<void> {
  const [{ ingestInBackground }, { createOpencodeProvider }, { createServiceSink }] = await Promise.all([
    import('./ingest/background.js'),
    import('./ingest/opencode.js'),
    import('./ingest/service-sink.js'),
  ])
  const provider = createOpencodeProvider({
    url: (config.ingestOpencodeUrl ?? '').replace(/\/+$/, ''),
    givenBy: 'DUALSTORE_INGEST_OPENCODE_URL',
    username: config.opencodeServerUsername,
    password: config.opencodeServerPassword,
    directory: config.ingestOpencodeDirectory,
  })
  const principal = { ...unrestricted('local'), id: 'ingest:opencode' }
  const sink = createServiceSink(services, { principal, address: undefined })
  await ingestInBackground({ provider, sink, log }, signal)
}

function keepHouse(pool: Pool, idempotencyTtlMs: number, log: Log): () => void {
  const timer = setInterval(() => {
    forgetIdempotencyKeys(pool, idempotencyTtlMs).catch((err) => log.warn({ err }, 'housekeeping failed'))
  }, HOUSEKEEPING_MS)
  timer.unref()
  return () => clearInterval(timer)
}

import { randomUUID } from 'node:crypto'
import {
  CHANGES_CHANNEL,
  COLLECTIONS_CHANNEL,
  createHints,
  JOBS_CHANNEL,
  KEYS_CHANNEL,
  MIRRORS_CHANNEL,
} from './changes/hints.js'
import { readHead } from './changes/read.js'
import { createClosers } from './closing.js'
import { authIsOn, type Config } from './config/index.js'
import { ingestOpencode, keepHouse } from './context/background.js'
import { openCache } from './context/cache.js'
import { openIssuer } from './context/issuer.js'
import { canReachMirror, guard, openDatabase, openMirror } from './context/stores.js'
import type { EmbeddedServer } from './db/embedded.js'
import { listen } from './db/listen.js'
import { migrate, requireMigrated } from './db/migrate.js'
import { availabilityOf, currentUrl, type Pool, silenceOf, whenRenewed } from './db/pool.js'
import { retrying } from './db/transaction.js'
import type { Log } from './followers/contract.js'
import { createLeased } from './followers/leased.js'
import { createMirrorFollower } from './followers/mirror.js'
import type { WatchBatch } from './followers/position-loop.js'
import { createProgress } from './followers/progress.js'
import { createRetention } from './followers/retention.js'
import { createTail } from './followers/tail.js'
import type { GuardedMirror } from './mirror/guarded.js'
import { type AuditService, createAuditService } from './services/audit.js'
import type { Authenticator } from './services/authenticator.js'
import { type BackupService, createBackupService } from './services/backup.js'
import { type CollectionService, createCollectionService, ensureShipped } from './services/collections.js'
import { createConsistency } from './services/consistency.js'
import { examine, type Finding } from './services/doctor.js'
import { createDocumentAuditService, type DocumentAuditService } from './services/document-audit.js'
import { createDocumentService, type DocumentService } from './services/documents.js'
import { createFallback } from './services/fallback.js'
import { createForeignService, type ForeignService } from './services/foreign.js'
import { createGatherer, refusedRow } from './services/gatherer.js'
import { createJobService, type JobService } from './services/jobs.js'
import { createKeyCache } from './services/key-cache.js'
import { createKeyUsage } from './services/key-usage.js'
import { createKeyService, type KeyService } from './services/keys.js'
import { createListingService, type ListingService } from './services/listing.js'
import { type Counters, createCounters } from './services/metrics/counters.js'
import { createMetricsService, type MetricsService } from './services/metrics.js'
import { createMigrationService, type MigrationService } from './services/migrations.js'
import { createMirrorControl, type MirrorControl } from './services/mirror-control.js'
import { createOverview, type OverviewService } from './services/overview.js'
import { createParkedService, type ParkedService } from './services/parked.js'
import { createReader } from './services/reader.js'
import { createRegistry } from './services/registry.js'
import { createRepair } from './services/repair.js'
import { createStatusService, type StatusService } from './services/status.js'
import { createStreamService, type StreamService } from './services/streams.js'
import { createTokenSecrets } from './services/token-secrets.js'
import { createTokenService, type TokenCodec, type TokenService } from './services/tokens.js'
import { createTransferService, type TransferService } from './services/transfer.js'
import { completeAudit, createVerification, type Verification } from './services/verification.js'
import { createWriter } from './services/writer.js'
import { readDocuments, writeDocuments } from './store/documents.js'

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
  backup: BackupService
  overview: OverviewService
  mirrorControl: MirrorControl
  migrations: MigrationService
  keys: KeyService
  audit: AuditService
  /** This server's own tokens, once there is what signs and verifies them. */
  tokensWith(codec: TokenCodec): TokenService
  /** Takes the tokens of the identity provider; undefined when there is none. */
  issuer: Authenticator | undefined
  jobs: JobService
  verification: Verification
  parked: ParkedService
  foreign: ForeignService
  /** undefined: they are switched off. */
  metrics: MetricsService | undefined
  counters: Counters
  mirror: GuardedMirror | undefined
  /** Starts what follows the log and keeps house; only a server does. `watch` watches the mirror's batches. */
  startFollowers(watch?: WatchBatch): void
  /** Runs jobs, beside a server or without one; a server does by itself. */
  startJobs(): void
  /** Lets what is gathered finish, stops followers, closes both stores. Once; keeps the first error. */
  close(): Promise<void>
}

const CHANNELS = [CHANGES_CHANNEL, COLLECTIONS_CHANNEL, KEYS_CHANNEL, JOBS_CHANNEL, MIRRORS_CHANNEL]
const REGISTRY_REFRESH_MS = 1000
const RETENTION_POLL_MS = 2000
const KEYS_POLL_MS = 500
const TOKEN_SECRETS_REFRESH_MS = 2000
const KEY_USAGE_MS = 5000

export interface OpenOptions {
  /**
   * Which database may be brought to this program's version: any, as a server does, or only the embedded one. Somebody
   * else's is migrated when its operator says so, not because somebody looked at it.
   */
  migrate: 'any' | 'embedded'
  /** The embedded PostgreSQL, when it is starting already. */
  embedded?: Promise<EmbeddedServer> | undefined
}

/** The composition root. @throws whatever keeps PostgreSQL from being opened; a mirror that is down does not. */
export async function openContext(
  config: Config,
  log: Log,
  options: OpenOptions = { migrate: 'any' },
): Promise<Context> {
  const closers = createClosers()
  try {
    const pool = await openDatabase(config, log, closers.add, options.embedded)
    const mayMigrate = options.migrate === 'any' || config.databaseUrl === undefined
    await (mayMigrate ? migrate(pool) : requireMigrated(pool))
    await ensureShipped(pool)
    const hints = createHints(pool)
    closers.add(hints.stop)
    const registry = createRegistry(pool, log)
    const [{ epoch, position }] = await Promise.all([readHead(pool), registry.refresh()])

    const counters = createCounters()
    const mirror = config.dualWriteEnabled ? guard(await openMirror(config, log), log, counters) : undefined
    if (mirror !== undefined) closers.add(() => mirror.close())
    const progress = mirror && createProgress()

    const { cache, follower: cacheFollower } = openCache(config, { pool, hints, log }) ?? {}
    const gatherer = createGatherer({
      async run(writes) {
        counters.gathered(writes.length)
        try {
          return await retrying(() => writeDocuments(pool, writes))
        } finally {
          // Before anybody is told, and after a failure too: it may have been written all the same.
          if (cache !== undefined) for (const { collection, id } of writes) cache.forget(collection, id)
        }
      },
      refuse: refusedRow,
      maxWaiting: config.maxWaitingWrites,
    })
    closers.add(() => gatherer.drain())
    let following = false
    const writer = createWriter({ pool, gatherer })
    const reader = createReader({
      async run(collection, ids) {
        const fill = cache?.beginFill()
        try {
          const found = await readDocuments(pool, collection, ids)
          if (fill !== undefined) for (const document of found) fill.keep(collection, document)
          return found
        } finally {
          fill?.end()
        }
      },
    })
    const consistency = createConsistency({
      pool,
      epoch,
      // Only a process that follows the log learns when the mirror has something.
      get defaultLevel() {
        return following ? config.dualWriteConsistency : 'eventual'
      },
      waitTimeoutMs: config.waitTimeoutMs,
      mirror: progress,
      mirrorIsAway: () => mirror?.breaker.state !== 'closed',
    })
    const fallback = createFallback({ mirror, epoch, progress })
    const listing = createListingService({
      pool,
      registry,
      consistency,
      fallback,
      mirror,
      // Who keeps no documents keeps no pages of them.
      keptPagesMaxBytes: cache === undefined ? 0 : undefined,
    })
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
    const metrics =
      config.metrics === 'off'
        ? undefined
        : createMetricsService({
            counters,
            cache,
            version: config.apiVersion,
            pool,
            mirror,
            progress,
            gatherer,
            streams,
          })
    closers.add(() => metrics?.close())
    log.debug({ epoch, position }, 'context is open')
    const instance = `${process.pid}-${randomUUID()}`
    const documents = createDocumentService({
      pool,
      registry,
      reader,
      writer,
      cache,
      hints,
      consistency,
      fallback,
    })
    const transfer = createTransferService({ pool, registry, listing, writer, hints, consistency, mirror })
    const parked = createParkedService({ pool, registry, mirror })
    const audited = { pool, registry, mirror, patienceMs: config.waitTimeoutMs }
    const verification = createVerification(audited)
    metrics?.watchVerification(async () => {
      const last = await verification.last()
      if (last === undefined) return undefined
      const { documents: checked, missing, extra, different } = last.result
      return { checked, differences: missing + extra + different, endedAt: last.finishedAt.getTime() }
    })
    const repair = createRepair({ ...audited, parked })
    const jobs = createJobService({
      pool,
      hints,
      log,
      instance,
      pollMs: config.followPollMs,
      work: { verify: verification.work, repair: repair.work },
      complete: (given) => completeAudit(audited, given, config.verifyRate),
      mayRun: () => canReachMirror(pool, mirror, instance),
      schedule:
        config.verifyIntervalMs === undefined || mirror === undefined
          ? undefined
          : { kind: 'verify', intervalMs: config.verifyIntervalMs, options: {} },
    })
    const startJobs = () => {
      for (const runner of jobs.runners()) {
        runner.run()
        closers.add(() => runner.stop())
      }
    }

    return {
      config,
      log,
      metrics,
      counters,
      mirror,
      documents,
      listing,
      collections: createCollectionService({ pool, registry, hints, onDropped: () => cache?.forgetAll() }),
      transfer,
      streams,
      backup: createBackupService({ pool, hints, mirror }),
      documentAudit: createDocumentAuditService({ pool, epoch }),
      status: createStatusService({ pool, registry, mirror, progress }),
      overview: createOverview(pool),
      mirrorControl: createMirrorControl({ pool, hints, log }),
      migrations: createMigrationService({ pool, registry, hints }),
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
      issuer: await openIssuer(config, log),
      jobs,
      verification,
      parked,
      foreign: createForeignService({ pool, registry, mirror }),
      startJobs,
      startFollowers(watch) {
        following = true
        const listener = listen({
          url: () => currentUrl(pool),
          channels: CHANNELS,
          onNotification: (channel) => hints.received(channel),
          onConnected: () => {
            for (const channel of CHANNELS) hints.received(channel)
          },
          onError: (err, first) => {
            if (first) log.warn({ err }, 'cannot listen for notifications; polling instead')
            availabilityOf(pool).reach.look()
          },
          onSilence: () => availabilityOf(pool).reach.open(new Error('PostgreSQL does not answer')),
          silenceMs: config.databaseSilenceMs,
          heard: () => silenceOf(pool),
        })
        whenRenewed(pool, listener.renew)
        closers.add(() => listener.stop())
        closers.add(hints.on(COLLECTIONS_CHANNEL, () => void registry.refresh().catch(() => {})))
        closers.add(registry.watch(REGISTRY_REFRESH_MS))
        if (authIsOn(config)) {
          closers.add(hints.on(KEYS_CHANNEL, () => void keyCache.check().catch(() => {})))
          closers.add(keyCache.watch(KEYS_POLL_MS))
          closers.add(keyUsage.watch(KEY_USAGE_MS))
          closers.add(tokenSecrets.watch(TOKEN_SECRETS_REFRESH_MS))
        }
        if (cacheFollower !== undefined) {
          cacheFollower.run()
          closers.add(() => cacheFollower.stop())
        }
        closers.add(keepHouse(pool, config.idempotencyTtlMs, log))
        const retention = createLeased({
          id: 'log-retention',
          instance,
          pool,
          log,
          pollMs: RETENTION_POLL_MS,
          work: createRetention({
            pool,
            log,
            maxAgeMs: config.logRetentionMs,
            maxBytes: config.logMaxBytes,
            partitionChanges: config.logPartitionChanges,
          }).work,
        })
        retention.run()
        closers.add(() => retention.stop())
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
          watch,
        })
        follower.run()
        closers.add(() => follower.stop())
        startJobs()
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
    return await work(await openDatabase(config, log, closers.add))
  } finally {
    await closers.close()
  }
}

/** What is wrong with both stores and the settings, as they are; nothing is migrated or started that is not needed. */
export async function diagnose(config: Config, log: Log): Promise<Finding[]> {
  const closers = createClosers()
  try {
    const pool = await openDatabase(config, log, closers.add).catch((error: Error) => error)
    const mirror = config.dualWriteEnabled ? await openMirror(config, log) : undefined
    if (mirror !== undefined) closers.add(() => mirror.close())
    return await examine({ settings: config, pool, mirror })
  } finally {
    await closers.close()
  }
}

import { databaseName, flag, integer, type Kind, list, name, oneOf, path, text, url } from './kinds.js'

/** One setting. Its command-line flag is its key with dashes; docs/configuration.md is generated from here. */
export interface Setting<T> {
  kind: Kind<T>
  /** undefined: the setting is off, or decided at start, unless given. */
  default: T | undefined
  /** Environment names in order of precedence; the first is the one to use, the others are kept from elsewhere. */
  env: readonly [string, ...string[]]
  group: string
  help: string
  /** Masked wherever values are printed: all of it, or of a connection string what could be a password in it. */
  secret?: 'all' | 'in-url'
}

type Rest<T> = Omit<Setting<T>, 'kind' | 'default' | 'env' | 'group'>

const inGroup =
  (group: string) =>
  <T, D extends T | undefined>(
    kind: Kind<T>,
    fallback: D,
    env: readonly [string, ...string[]],
    rest: Rest<T>,
  ): Setting<T> & { default: D } => ({ kind, default: fallback, env, group, ...rest })

const server = inGroup('Server')
const log = inGroup('Logging')
const postgres = inGroup('PostgreSQL')
const changeLog = inGroup('Change log')
const mirror = inGroup('Mirror')
const security = inGroup('Security')
const limits = inGroup('Limits')
const docs = inGroup('API documentation')
const streams = inGroup('Streams')
const cache = inGroup('Cache')
const ingest = inGroup('Ingest')
const DAY_MS = 86_400_000

/** Every setting, each declared once: type, default, environment names, help; flags and documentation follow. */
export const settings = {
  host: server(text, '127.0.0.1', ['HOST'], {
    help: 'Address to listen on. The legacy server listened on 0.0.0.0.',
  }),
  port: server(integer(0, 65_535), 3000, ['PORT'], { help: 'Port to listen on; 0 takes a free one.' }),
  apiPrefix: server(path, '/api/v1', ['API_PREFIX'], { help: 'Path in front of every API route.' }),
  apiVersion: server(text, '1.0.0', ['API_VERSION'], { help: 'Version that / and /health tell.' }),
  dataDir: server(text, './.dualstore', ['DUALSTORE_DATA_DIR'], {
    help: 'Where the embedded PostgreSQL and the embedded mirror keep their files.',
  }),
  nodeEnv: server(text, 'production', ['NODE_ENV'], {
    help: '"development" prints logs for people and puts messages into answers with status 500.',
  }),
  shutdownGraceMs: server(integer(1, 600_000, 'milliseconds'), 10_000, ['DUALSTORE_SHUTDOWN_GRACE_MS'], {
    help: 'How long requests in flight may take after SIGTERM or SIGINT.',
  }),
  keepAliveTimeoutMs: server(
    integer(0, 600_000, 'milliseconds'),
    72_000,
    ['DUALSTORE_KEEP_ALIVE_TIMEOUT_MS'],
    {
      help: 'How long an idle connection is kept; above the 60 s of common balancers.',
    },
  ),

  logLevel: log(oneOf('fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'), 'info', ['LOG_LEVEL'], {
    help: 'Least severe level that is logged.',
  }),

  databaseUrl: postgres(url('postgresql', 'postgres'), undefined, ['DATABASE_URL'], {
    help: 'PostgreSQL 15 to 18. Unset: an embedded PostgreSQL under the data directory.',
    secret: 'in-url',
  }),
  databasePoolSize: postgres(integer(2, 1000), 10, ['DATABASE_POOL_SIZE'], {
    help: 'Most connections this process opens.',
  }),
  databaseConnectTimeoutMs: postgres(
    integer(100, 60_000, 'milliseconds'),
    2000,
    ['DUALSTORE_DATABASE_CONNECT_TIMEOUT_MS'],
    { help: 'How long a request waits for a connection before it is answered with 503.' },
  ),
  databaseStatementTimeoutMs: postgres(
    integer(0, 3_600_000, 'milliseconds'),
    10_000,
    ['DUALSTORE_DATABASE_STATEMENT_TIMEOUT_MS'],
    {
      help: 'How long PostgreSQL may work on one statement. 0 leaves it to the server, as PgBouncer wants it.',
    },
  ),
  followPollMs: postgres(integer(10, 60_000, 'milliseconds'), 500, ['DUALSTORE_FOLLOW_POLL_MS'], {
    help: 'How often the change log is looked at when no notification comes.',
  }),
  idempotencyTtlMs: postgres(
    integer(60_000, 30 * DAY_MS, 'milliseconds'),
    DAY_MS,
    ['DUALSTORE_IDEMPOTENCY_TTL_MS'],
    { help: 'How long an Idempotency-Key is remembered.' },
  ),

  logRetentionMs: changeLog(
    integer(0, 3650 * DAY_MS, 'milliseconds'),
    7 * DAY_MS,
    ['DUALSTORE_LOG_RETENTION_MS'],
    {
      help: 'How long changes are kept; streams can resume within it. A follower that runs holds older ones back. 0: for ever.',
    },
  ),
  logMaxBytes: changeLog(
    integer(0, Number.MAX_SAFE_INTEGER, 'bytes'),
    50 * 1024 ** 3,
    ['DUALSTORE_LOG_MAX_BYTES'],
    {
      help: 'Largest size of the log; above it the oldest changes go, and a follower that still needs them is lost. 0: no bound.',
    },
  ),
  logPartitionChanges: changeLog(integer(100, 1_000_000_000), 100_000, ['DUALSTORE_LOG_PARTITION_CHANGES'], {
    help: 'Changes of one partition of the log; what is dropped, is dropped by whole partitions.',
  }),

  mongodbUri: mirror(url('mongodb', 'mongodb+srv'), undefined, ['MONGODB_URI', 'MCP_MONGO_URI'], {
    help: 'MongoDB 5 to 8 that holds the mirror. Unset: an embedded mirror under the data directory.',
    secret: 'in-url',
  }),
  mongodbDatabase: mirror(databaseName, 'database', ['DUALSTORE_MONGODB_DATABASE'], {
    help: 'Database of the mirror; the legacy name by default.',
  }),
  agentName: mirror(name, 'duck', ['AGENT_NAME'], {
    help: 'Prefix of every mirrored collection: duck gives duck_session_messages.',
  }),
  dualWriteEnabled: mirror(flag, true, ['DUAL_WRITE_ENABLED'], {
    help: 'false: no mirror is written. The log keeps what it would need.',
  }),
  dualWriteConsistency: mirror(oneOf('eventual', 'strict'), 'eventual', ['DUAL_WRITE_CONSISTENCY'], {
    help: 'strict: a write is answered when the mirror has it; x-dualstore-consistency decides for one request.',
  }),
  waitTimeoutMs: mirror(integer(1, 600_000, 'milliseconds'), 10_000, ['DUALSTORE_WAIT_TIMEOUT_MS'], {
    help: 'Longest wait of a strict write or of x-dualstore-wait-for, then 504.',
  }),
  mirrorTimeoutMs: mirror(integer(100, 60_000, 'milliseconds'), 3000, ['DUALSTORE_MIRROR_TIMEOUT_MS'], {
    help: 'Time limit of one request to MongoDB.',
  }),

  authEnabled: security(flag, undefined, ['AUTH_ENABLED'], {
    help: 'true: every request needs the bearer token; false: none does. Unset: on when a token is given.',
  }),
  authBearerToken: security(text, undefined, ['AUTH_BEARER_TOKEN', 'BEARER_AUTH_KEY'], {
    help: 'The legacy bearer token.',
    secret: 'all',
  }),
  corsOrigin: security(list, ['*'], ['CORS_ORIGIN'], { help: 'Origins that may call from a browser.' }),
  corsCredentials: security(flag, true, ['CORS_CREDENTIALS'], {
    help: 'Allow credentials for the origins listed; never together with *.',
  }),
  trustProxy: security(flag, false, ['DUALSTORE_TRUST_PROXY'], {
    help: "Take the client's address from X-Forwarded-For. Only behind a proxy that sets it.",
  }),

  rateLimitMaxRequests: limits(integer(1, 1_000_000_000), undefined, ['RATE_LIMIT_MAX_REQUESTS'], {
    help: 'Most requests of one address in a window. Unset: no limit.',
  }),
  rateLimitWindowMs: limits(integer(1000, DAY_MS, 'milliseconds'), 900_000, ['RATE_LIMIT_WINDOW_MS'], {
    help: 'Length of the window.',
  }),
  bodyIdleTimeoutMs: limits(
    integer(100, 3_600_000, 'milliseconds'),
    60_000,
    ['DUALSTORE_BODY_IDLE_TIMEOUT_MS'],
    { help: 'How long a client may send nothing in the middle of a request body; then it is disconnected.' },
  ),
  bodyLimitBytes: limits(integer(1024, 268_435_456, 'bytes'), 10_485_760, ['DUALSTORE_BODY_LIMIT_BYTES'], {
    help: 'Largest request body; of an import, the largest line.',
  }),

  openapiEnabled: docs(flag, true, ['OPENAPI_ENABLED'], { help: 'Serve the API documentation.' }),
  openapiPath: docs(path, '/docs', ['OPENAPI_PATH'], { help: 'Where the API documentation is served.' }),

  ingestOpencodeUrl: ingest(url('http', 'https'), undefined, ['DUALSTORE_INGEST_OPENCODE_URL'], {
    help: 'OpenCode server that `serve` follows into opencode_events and session_messages. Unset: none.',
    secret: 'in-url',
  }),
  ingestOpencodeDirectory: ingest(text, undefined, ['DUALSTORE_INGEST_OPENCODE_DIRECTORY'], {
    help: 'Only what happens in this directory of the OpenCode server. Unset: everything.',
  }),
  opencodeServerUsername: ingest(text, 'opencode', ['OPENCODE_SERVER_USERNAME'], {
    help: 'User of the OpenCode server, when it has a password.',
  }),
  opencodeServerPassword: ingest(text, undefined, ['OPENCODE_SERVER_PASSWORD'], {
    help: 'Password of the OpenCode server.',
    secret: 'all',
  }),

  sseEnabled: streams(flag, true, ['SSE_ENABLED'], { help: 'Serve streams of changes.' }),
  ssePollingInterval: streams(integer(10, DAY_MS, 'milliseconds'), undefined, ['SSE_POLLING_INTERVAL'], {
    help: 'How often streams look at the change log when no notification comes. Unset: as DUALSTORE_FOLLOW_POLL_MS.',
  }),
  sseHeartbeatInterval: streams(integer(10, DAY_MS, 'milliseconds'), 30_000, ['SSE_HEARTBEAT_INTERVAL'], {
    help: 'How often a quiet stream is sent a heartbeat.',
  }),
  streamMaxConnections: streams(integer(0, 1_000_000), 20_000, ['DUALSTORE_STREAM_MAX_CONNECTIONS'], {
    help: 'Most streams of this process; more are answered with 503.',
  }),
  streamMaxConnectionsPerAddress: streams(
    integer(0, 1_000_000),
    1000,
    ['DUALSTORE_STREAM_MAX_CONNECTIONS_PER_ADDRESS'],
    { help: 'Most streams of one address; more are answered with 429.' },
  ),

  // Legacy names whose capability is not part of this version. They are read and checked, so that a configuration
  // is kept whole, and named at start, so that nobody believes they work (see `dormant`).
  cacheTtlSeconds: cache(integer(0, 86_400, 'seconds'), 300, ['CACHE_TTL_SECONDS'], {
    help: 'Reserved for the cache.',
  }),
  cacheMaxSize: cache(integer(0, 1_000_000_000), 1000, ['CACHE_MAX_SIZE'], {
    help: 'Reserved for the cache.',
  }),
  chromaUrl: cache(url('http', 'https'), undefined, ['CHROMA_URL'], {
    help: 'The legacy vector store. dualstore has none: PostgreSQL took its place.',
    secret: 'in-url',
  }),
} as const

/** Settings that are accepted for the sake of a legacy configuration and do nothing in this version. */
export const dormant: readonly SettingKey[] = ['cacheTtlSeconds', 'cacheMaxSize', 'chromaUrl']

export type SettingKey = keyof typeof settings

type ValueOf<S> = S extends { kind: Kind<infer T>; default: infer D }
  ? undefined extends D
    ? T | undefined
    : T
  : never

/** The effective configuration: one value for each setting. */
export type Config = { readonly [K in SettingKey]: ValueOf<(typeof settings)[K]> }

/** `databasePoolSize` is `--database-pool-size` on the command line. */
export function flagOf(key: SettingKey): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
}

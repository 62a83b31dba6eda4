import {
  databaseName,
  flag,
  integer,
  type Kind,
  list,
  name,
  oneOf,
  path,
  proxies,
  text,
  url,
} from './kinds.js'

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
const legacy = inGroup('Legacy')
const ingest = inGroup('Ingest')
const metrics = inGroup('Metrics')
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
    help: 'PostgreSQL 15 to 18; host1,host2 names several servers. Unset: an embedded one under the data directory.',
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
  databaseSilenceMs: postgres(integer(100, 60_000, 'milliseconds'), 500, ['DUALSTORE_DATABASE_SILENCE_MS'], {
    help: 'PostgreSQL that does not answer a trivial statement for so long is away: requests get 503 at once.',
  }),
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
  verifyIntervalMs: mirror(
    integer(60_000, 30 * DAY_MS, 'milliseconds'),
    undefined,
    ['DUALSTORE_VERIFY_INTERVAL_MS'],
    { help: 'How often one of the servers compares the mirror with PostgreSQL. Unset: only when asked.' },
  ),
  verifyRate: mirror(integer(1, 1_000_000_000, 'documents a second'), undefined, ['DUALSTORE_VERIFY_RATE'], {
    help: 'How fast a verification or repair reads, unless it is asked for at another rate. Unset: no limit.',
  }),

  authEnabled: security(flag, undefined, ['AUTH_ENABLED'], {
    help:
      'true: every request but /health/live needs a key (`dualstore keys create`) or the legacy token; false: none ' +
      'does. Unset: on when a legacy token or an issuer is given. Off is for loopback addresses.',
  }),
  authBearerToken: security(text, undefined, ['AUTH_BEARER_TOKEN', 'BEARER_AUTH_KEY'], {
    help: 'The legacy bearer token: one for everything. Deprecated: make keys.',
    secret: 'all',
  }),
  insecureNoAuth: security(flag, false, ['DUALSTORE_INSECURE_NO_AUTH'], {
    help: 'Serve without authentication on an address that others can reach.',
  }),
  tokenLifetimeMs: security(
    integer(1000, 3_600_000, 'milliseconds'),
    900_000,
    ['DUALSTORE_TOKEN_LIFETIME_MS'],
    { help: 'Lifetime of a token for which no other one was asked; an hour is the most.' },
  ),
  tokenRotationMs: security(
    integer(1000, 90 * DAY_MS, 'milliseconds'),
    DAY_MS,
    ['DUALSTORE_TOKEN_ROTATION_MS'],
    {
      help: 'How long a secret signs tokens before the next one does. It verifies until its last token has expired.',
    },
  ),
  tokenClockSkewMs: security(integer(0, 300_000, 'milliseconds'), 30_000, ['DUALSTORE_TOKEN_CLOCK_SKEW_MS'], {
    help: 'How far the clocks of those who make and check tokens may be apart.',
  }),
  jwtIssuer: security(text, undefined, ['DUALSTORE_JWT_ISSUER'], {
    help: 'Identity provider whose tokens are taken: exactly what they have as iss. Unset: none.',
  }),
  jwtAudience: security(text, undefined, ['DUALSTORE_JWT_AUDIENCE'], {
    help: 'What its tokens must have as aud, so that those for other services are refused.',
  }),
  jwtJwksUrl: security(url('http', 'https'), undefined, ['DUALSTORE_JWT_JWKS_URL'], {
    help: 'Where its public keys are (JSON Web Key Set).',
    secret: 'in-url',
  }),
  jwtRoleClaim: security(text, 'role', ['DUALSTORE_JWT_ROLE_CLAIM'], {
    help: 'Claim with the role, or several of which the greatest counts; dots lead into objects. None: refused.',
  }),
  jwtRoleNames: security(list, undefined, ['DUALSTORE_JWT_ROLE_NAMES'], {
    help: 'What the provider calls the roles: ds-admins=admin,team-a=writer. Unset: reader, writer, admin.',
  }),
  jwtScopesClaim: security(text, undefined, ['DUALSTORE_JWT_SCOPES_CLAIM'], {
    help: 'Claim with read:<collection> and write:<collection>, patterns too. Unset: every collection.',
  }),
  jwtRowsClaim: security(text, undefined, ['DUALSTORE_JWT_ROWS_CLAIM'], {
    help: 'Claim with a filter that documents must pass to be seen and written. Unset: every document.',
  }),
  corsOrigin: security(list, ['*'], ['CORS_ORIGIN'], { help: 'Origins that may call from a browser.' }),
  corsCredentials: security(flag, true, ['CORS_CREDENTIALS'], {
    help: 'Allow credentials for the origins listed; never together with *.',
  }),
  trustProxy: security(proxies, false, ['DUALSTORE_TRUST_PROXY'], {
    help:
      "Whose X-Forwarded-For tells the client's address: that of so many proxies in front, or of these addresses. " +
      'true believes whoever calls, which lets anybody choose an address.',
  }),
  authAttemptsPerMinute: security(integer(0, 1_000_000), 60, ['DUALSTORE_AUTH_ATTEMPTS_PER_MINUTE'], {
    help:
      'Wrong credentials, and requests for tokens, of one address in a minute; then 429 before a credential is ' +
      'looked at. 0: no limit.',
  }),

  rateLimitMaxRequests: limits(integer(1, 1_000_000_000), undefined, ['RATE_LIMIT_MAX_REQUESTS'], {
    help: 'Most requests of one key, or of one address without a key, in a window. Unset: no limit.',
  }),
  rateLimitWindowMs: limits(integer(1000, DAY_MS, 'milliseconds'), 900_000, ['RATE_LIMIT_WINDOW_MS'], {
    help: 'Length of the window.',
  }),
  rateLimitReadMaxRequests: limits(
    integer(1, 1_000_000_000),
    undefined,
    ['DUALSTORE_RATE_LIMIT_READ_MAX_REQUESTS'],
    { help: 'A budget of its own for reading, in the same window. Unset: from RATE_LIMIT_MAX_REQUESTS.' },
  ),
  rateLimitWriteMaxRequests: limits(
    integer(1, 1_000_000_000),
    undefined,
    ['DUALSTORE_RATE_LIMIT_WRITE_MAX_REQUESTS'],
    { help: 'A budget of its own for writing, in the same window. Unset: from RATE_LIMIT_MAX_REQUESTS.' },
  ),
  redisUrl: limits(url('redis', 'rediss'), undefined, ['REDIS_URL'], {
    help: 'Redis or Valkey in which instances share their rate limits. Unset: each counts for itself.',
    secret: 'in-url',
  }),
  redisTimeoutMs: limits(integer(10, 10_000, 'milliseconds'), 250, ['DUALSTORE_REDIS_TIMEOUT_MS'], {
    help: 'How long a request waits for Redis before this instance counts for itself.',
  }),
  maxConnections: limits(integer(1, 1_000_000), 30_000, ['DUALSTORE_MAX_CONNECTIONS'], {
    help: 'Most connections that are open at once, streams included; more are closed at once.',
  }),
  headerLimitBytes: limits(integer(2048, 1_048_576, 'bytes'), 32_768, ['DUALSTORE_HEADER_LIMIT_BYTES'], {
    help: 'Largest head of a request: its URL and all of its headers.',
  }),
  urlLimitBytes: limits(integer(512, 1_048_576, 'bytes'), 16_384, ['DUALSTORE_URL_LIMIT_BYTES'], {
    help: 'Longest URL, query included.',
  }),
  headersTimeoutMs: limits(integer(100, 600_000, 'milliseconds'), 30_000, ['DUALSTORE_HEADERS_TIMEOUT_MS'], {
    help: "How long a client may take to send a request's head, from connecting on; then 408.",
  }),
  bodyIdleTimeoutMs: limits(
    integer(100, 3_600_000, 'milliseconds'),
    60_000,
    ['DUALSTORE_BODY_IDLE_TIMEOUT_MS'],
    { help: 'How long a client may send nothing in the middle of a request body; then it is disconnected.' },
  ),
  bodyMinBytesPerSecond: limits(
    integer(0, 1_000_000_000, 'bytes'),
    500,
    ['DUALSTORE_BODY_MIN_BYTES_PER_SECOND'],
    {
      help:
        'What a request body must bring on average in each DUALSTORE_BODY_IDLE_TIMEOUT_MS; then 408. Imports too. ' +
        '0: anything will do.',
    },
  ),
  answerIdleTimeoutMs: limits(
    integer(100, 3_600_000, 'milliseconds'),
    120_000,
    ['DUALSTORE_ANSWER_IDLE_TIMEOUT_MS'],
    { help: 'How long a client may read nothing of its answer; then it is disconnected.' },
  ),
  maxEventLoopDelayMs: limits(
    integer(0, 600_000, 'milliseconds'),
    1000,
    ['DUALSTORE_MAX_EVENT_LOOP_DELAY_MS'],
    { help: 'Mean delay of the event loop over five seconds above which requests get 503. 0: none do.' },
  ),
  maxHeapPercent: limits(integer(0, 100), 95, ['DUALSTORE_MAX_HEAP_PERCENT'], {
    help: "Use of V8's heap above which requests get 503. 0: none do.",
  }),
  bodyLimitBytes: limits(integer(1024, 268_435_456, 'bytes'), 10_485_760, ['DUALSTORE_BODY_LIMIT_BYTES'], {
    help: 'Largest request body; of an import, the largest line.',
  }),

  openapiEnabled: docs(flag, true, ['OPENAPI_ENABLED'], { help: 'Serve the API documentation.' }),
  openapiPath: docs(path, '/docs', ['OPENAPI_PATH'], { help: 'Where the API documentation is served.' }),

  metrics: metrics(oneOf('on', 'off'), 'on', ['DUALSTORE_METRICS'], {
    help: 'Serve /metrics for Prometheus.',
  }),
  metricsToken: metrics(text, undefined, ['DUALSTORE_METRICS_TOKEN'], {
    help: 'Bearer token for /metrics alone. Unset: whoever may use the API may read them.',
    secret: 'all',
  }),

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

  cacheMaxBytes: cache(integer(0, 2 ** 40, 'bytes'), 32 * 1024 ** 2, ['DUALSTORE_CACHE_MAX_BYTES'], {
    help: 'Memory for answers of single documents. 0: nothing is kept.',
  }),
  cacheMaxSize: cache(integer(0, 1_000_000_000), undefined, ['CACHE_MAX_SIZE'], {
    help: 'Most documents that are kept. 0: none. Unset: as many as there is memory for.',
  }),
  cacheTtlSeconds: cache(integer(0, 86_400, 'seconds'), 300, ['CACHE_TTL_SECONDS'], {
    help: 'How long a document is kept at most; one that changes is forgotten at once. 0: nothing is kept.',
  }),

  // Legacy names whose capability is not part of this version. They are read and checked, so that a configuration
  // is kept whole, and named at start, so that nobody believes they work (see `dormant`).
  chromaUrl: legacy(url('http', 'https'), undefined, ['CHROMA_URL'], {
    help: 'The legacy vector store. dualstore has none: PostgreSQL took its place.',
    secret: 'in-url',
  }),
} as const

/** Settings that are accepted for the sake of a legacy configuration and do nothing in this version. */
export const dormant: readonly SettingKey[] = ['chromaUrl']

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

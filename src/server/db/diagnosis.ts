import { type Queryable, query } from './pool.js'

/** A PostgreSQL server as an operator looks at it. */
export interface ServerFacts {
  /** Such as 180001. */
  version: number
  standby: boolean
  read_only: boolean
  /** Of a standby behind its primary, or of the slowest standby behind this primary; null when there is none. */
  replication_lag_ms: number | null
  connections: number
  max_connections: number
  database_bytes: number
  /** Epoch milliseconds by its clock. */
  now_ms: number
}

export async function readServerFacts(on: Queryable): Promise<ServerFacts | undefined> {
  const [facts] = await query<ServerFacts>(
    on,
    `SELECT current_setting('server_version_num')::int AS version,
       pg_is_in_recovery() AS standby,
       current_setting('transaction_read_only') = 'on' AS read_only,
       CASE WHEN pg_is_in_recovery()
         THEN (extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000)::bigint
         ELSE (SELECT (extract(epoch FROM max(replay_lag)) * 1000)::bigint FROM pg_stat_replication)
       END AS replication_lag_ms,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
       current_setting('max_connections')::int AS max_connections,
       pg_database_size(current_database()) AS database_bytes,
       (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms`,
  )
  return facts
}

/** A transaction of this database that is open. */
export interface OpenTransaction {
  pid: number
  application: string
  state: string
  /** Since it began. */
  age_ms: number
  /** It holds the lock of the change log, which every write needs. */
  holds_log: boolean
  /** Sessions that wait for something it holds. */
  blocks: number
}

/** The open transactions of others, the oldest first. */
export async function readTransactions(on: Queryable): Promise<OpenTransaction[]> {
  return query<OpenTransaction>(
    on,
    `SELECT a.pid, a.application_name AS application, coalesce(a.state, '') AS state,
       (extract(epoch FROM clock_timestamp() - a.xact_start) * 1000)::bigint AS age_ms,
       EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.locktype = 'advisory'
         AND l.classid = 1685414252) AS holds_log,
       (SELECT count(*) FROM pg_stat_activity w WHERE a.pid = ANY (pg_blocking_pids(w.pid))) AS blocks
     FROM pg_stat_activity a
     WHERE a.datname = current_database() AND a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid()
       AND a.backend_type = 'client backend'
     ORDER BY a.xact_start LIMIT 20`,
  )
}

/** How large the change log is. */
export interface LogFacts {
  head: number
  floor: number
  bytes: number
  /** Of the oldest change that is kept; null when there is none. */
  oldest_ms: number | null
}

export async function readLogFacts(on: Queryable): Promise<LogFacts | undefined> {
  const [facts] = await query<LogFacts>(
    on,
    `SELECT dualstore.log_head() AS head, floor,
       greatest(pg_total_relation_size('dualstore.changes'),
         (SELECT coalesce(sum(pg_total_relation_size(relid)), 0) FROM pg_partition_tree('dualstore.changes')))::bigint AS bytes,
       dualstore.now_ms() - (SELECT at FROM dualstore.changes ORDER BY seq LIMIT 1) AS oldest_ms
     FROM dualstore.logs WHERE log_id = 1`,
  )
  return facts
}

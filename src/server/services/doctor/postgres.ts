import {
  type LogFacts,
  type OpenTransaction,
  readLogFacts,
  readServerFacts,
  readTransactions,
  type ServerFacts,
} from '../../db/diagnosis.js'
import { migrationStatus } from '../../db/migrate.js'
import type { Pool } from '../../db/pool.js'
import { readStandings, type Standing } from '../../store/standings.js'
import { duration, type Finding, ok, problem, size, warning } from './finding.js'
import { examineFollower } from './followers.js'

const OLDEST_SUPPORTED = 15
const REPLICATION_LAG_MS = 10_000
const OLD_TRANSACTION_MS = 60_000
const HELD_LOG_MS = 1000

/** Everything that can be asked of PostgreSQL; changes nothing, and works on a database that was never migrated. */
export async function examinePostgres(pool: Pool, poolSize: number): Promise<Finding[]> {
  const server = await readServerFacts(pool)
  const findings = server === undefined ? [] : examineServer(server, poolSize)
  findings.push(...examineTransactions(await readTransactions(pool)))
  const { current, latest } = await migrationStatus(pool)
  if (current !== latest) {
    const mend = current < latest ? 'dualstore db migrate' : 'run the version of dualstore that migrated it'
    findings.push(problem('schema', `is at version ${current}, this program at ${latest}`, mend))
    return findings
  }
  findings.push(ok('schema', `version ${current}`))
  const standings = await readStandings(pool)
  findings.push(...standings.flatMap((standing) => examineFollower(factsOf(standing))))
  const log = await readLogFacts(pool)
  if (log !== undefined) findings.push(...examineLog(log, standings))
  return findings
}

function factsOf({ id, head, position, behind_ms, led, last_error, parked }: Standing) {
  const lagChanges = Math.max(0, head - position)
  return { id, lagChanges, lagMs: behind_ms, led, failing: last_error ?? false, parked }
}

export function examineServer(server: ServerFacts, poolSize: number): Finding[] {
  const check = 'postgres'
  const major = Math.floor(server.version / 10_000)
  const findings: Finding[] = []
  if (major < OLDEST_SUPPORTED) {
    findings.push(problem(check, `version ${major} is too old`, `upgrade to ${OLDEST_SUPPORTED} or later`))
  }
  if (server.standby) {
    findings.push(problem(check, 'is a standby: it takes no writes', 'point DATABASE_URL at the primary'))
  } else if (server.read_only) {
    const mend = 'ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf()'
    findings.push(problem(check, 'is read-only by default', `${mend} (or for the database or the role)`))
  }
  const lag = server.replication_lag_ms
  if (lag !== null && lag > REPLICATION_LAG_MS) {
    findings.push(
      warning(check, `replication is ${duration(lag)} behind`, 'SELECT * FROM pg_stat_replication'),
    )
  }
  const { connections, max_connections: most } = server
  if (connections > most * 0.9) {
    findings.push(
      warning(
        check,
        `${connections} of ${most} connections are taken`,
        'lower DATABASE_POOL_SIZE, use PgBouncer',
      ),
    )
  }
  if (poolSize + 1 > most) {
    findings.push(
      problem('settings', `DATABASE_POOL_SIZE is ${poolSize}, PostgreSQL allows ${most} in all`, 'lower it'),
    )
  }
  if (findings.length > 0) return findings
  return [
    ok(check, `version ${major}, ${connections} of ${most} connections, ${size(server.database_bytes)}`),
  ]
}

export function examineTransactions(transactions: readonly OpenTransaction[]): Finding[] {
  const check = 'transactions'
  const findings = transactions.flatMap((transaction): Finding[] => {
    const { pid, application, state, age_ms, holds_log, blocks } = transaction
    const who = `pid ${pid} (${application || 'unnamed'}, ${state})`
    const mend = `SELECT pg_terminate_backend(${pid})`
    if (holds_log && blocks > 0 && age_ms > HELD_LOG_MS) {
      const held = `${who} has held the lock of the change log for ${duration(age_ms)}: ${blocks} sessions wait`
      return [problem(check, held, mend)]
    }
    if (age_ms <= OLD_TRANSACTION_MS) return []
    const blocked = blocks > 0 ? ` and blocks ${blocks} sessions` : ''
    return [warning(check, `${who} is ${duration(age_ms)} old${blocked}; vacuum waits for it`, mend)]
  })
  return findings.length > 0 ? findings : [ok(check, 'none is old or keeps others waiting')]
}

/** From which share of the log a follower's lag threatens what it has still to read. */
const HEADROOM = 0.8

export function examineLog(log: LogFacts, standings: readonly Standing[]): Finding[] {
  const kept = log.head - log.floor
  const age = log.oldest_ms === null ? '' : `, the oldest ${duration(log.oldest_ms)} old`
  const findings = standings.flatMap(({ id, position }): Finding[] => {
    if (position < log.floor) {
      const mend = 'dualstore mirror rebuild'
      return [problem('log', `follower ${id} needs changes that are dropped`, mend)]
    }
    if (log.floor === 0 || log.head - position < kept * HEADROOM) return []
    const mend = 'keep more of the log until it has caught up'
    return [warning('log', `follower ${id} is about to fall behind what is kept`, mend)]
  })
  return findings.length > 0 ? findings : [ok('log', `${kept} changes, ${size(log.bytes)}${age}`)]
}

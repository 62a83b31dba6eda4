import pg from 'pg'
import { storeError } from './sqlstate.js'

export type Pool = pg.Pool
/** A connection inside a transaction, or the pool itself for a single statement: whatever can run a query. */
export type Queryable = Pick<pg.PoolClient, 'query'>

/** What the pool needs to know; config.ts gives the values. All times in milliseconds. */
export interface PoolOptions {
  url: string
  /** Most connections this process opens. */
  size: number
  connectTimeoutMs: number
  statementTimeoutMs: number
  applicationName: string
  /** Told about connections that break while idle, which would otherwise end the process. */
  onIdleError: (error: Error) => void
}

// int8 arrives as text by default. Versions, positions and epoch milliseconds stay far below 2^53.
const INT8 = 20
const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
    oid === INT8 ? Number : pg.types.getTypeParser(oid, format)) as pg.CustomTypesConfig['getTypeParser'],
}

/**
 * Opens a pool whose sessions fail fast: a statement, a lock or an idle transaction past its limit ends with an
 * SQLSTATE instead of holding a connection for ever. No connection is made until the first query.
 */
export function openPool(options: PoolOptions): Pool {
  const pool = new pg.Pool({
    connectionString: options.url,
    max: options.size,
    connectionTimeoutMillis: options.connectTimeoutMs,
    idleTimeoutMillis: 30_000,
    allowExitOnIdle: true,
    application_name: options.applicationName,
    statement_timeout: options.statementTimeoutMs,
    idle_in_transaction_session_timeout: options.statementTimeoutMs * 2,
    keepAlive: true,
    types,
  })
  pool.on('error', options.onIdleError)
  return pool
}

/**
 * Runs one statement and translates what goes wrong into the catalogue's errors.
 * @param name Names the prepared statement; give one to statements on a hot path only.
 */
export async function query<Row extends pg.QueryResultRow>(
  on: Queryable,
  text: string,
  values: readonly unknown[] = [],
  name?: string,
): Promise<Row[]> {
  try {
    const result = await on.query<Row>(
      name === undefined ? { text, values: [...values] } : { name, text, values: [...values] },
    )
    return result.rows
  } catch (error) {
    throw storeError(error)
  }
}

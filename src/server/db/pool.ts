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
    // Sent when connecting, which PgBouncer refuses unless told otherwise; 0 sends nothing.
    ...(options.statementTimeoutMs > 0 && {
      statement_timeout: options.statementTimeoutMs,
      idle_in_transaction_session_timeout: options.statementTimeoutMs * 2,
    }),
    keepAlive: true,
    types,
  })
  pool.on('error', options.onIdleError)
  const open = new Set<pg.PoolClient>()
  pool.on('connect', (client) => open.add(client))
  pool.on('remove', (client) => open.delete(client))
  connections.set(pool, open)
  return pool
}

const connections = new WeakMap<Pool, Set<pg.PoolClient>>()

/** Breaks every connection, so that whoever waits for an answer that will not come is told; new ones are made. */
export function breakConnections(pool: Pool): void {
  // With a statement under way, end() destroys the socket at once.
  for (const client of connections.get(pool) ?? [])
    void (client as unknown as pg.Client).end().catch(() => {})
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

/** A connection lent to some work, which may say that it must not be used again. */
export interface Lent {
  client: pg.PoolClient
  discard(error: Error): void
}

/** Lends one connection of the pool to `work`, and throws it away afterwards when it broke or was discarded. */
export async function withConnection<T>(pool: Pool, work: (lent: Lent) => Promise<T>): Promise<T> {
  const client = await pool.connect().catch((error: unknown) => {
    throw storeError(error)
  })
  let broken: Error | undefined
  // The pool listens only to idle connections. Without a listener, one that breaks here would end the process.
  const discard = (error: Error) => {
    broken ??= error
  }
  client.on('error', discard)
  try {
    return await work({ client, discard })
  } finally {
    client.off('error', discard)
    client.release(broken)
  }
}

/**
 * Runs statements without a time limit, one after the other on one connection outside a transaction: for building
 * indexes, which takes as long as the collection is large.
 */
export async function runUnlimited(pool: Pool, statements: readonly string[]): Promise<void> {
  if (statements.length === 0) return
  await withConnection(pool, async ({ client, discard }) => {
    try {
      await query(client, 'SET statement_timeout = 0')
      for (const statement of statements) await query(client, statement)
      await query(client, 'RESET statement_timeout')
    } catch (error) {
      discard(error as Error)
      throw error
    }
  })
}

import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { activity } from '../activity.js'
import { type Availability, createAvailability } from './availability.js'
import { serversOf } from './hosts.js'
import { codeOf, isAway, READ_ONLY, storeError, TOO_MANY_CONNECTIONS } from './sqlstate.js'

export type Pool = pg.Pool
/** A connection inside a transaction, or the pool itself for a single statement: whatever can run a query. */
export type Queryable = Pick<pg.PoolClient, 'query'>

/** What the pool needs to know; config.ts gives the values. All times in milliseconds. */
export interface PoolOptions {
  /** May name several servers, as libpq reads it; the first is used until another turns out to take the writes. */
  url: string
  /** Most connections this process opens. */
  size: number
  connectTimeoutMs: number
  statementTimeoutMs: number
  applicationName: string
  /** Told about connections that break while idle, which would otherwise end the process. */
  onIdleError: (error: Error) => void
  /** Told when PostgreSQL goes away, comes back, turns read-only, or another server is used. */
  onAvailability?: (fields: object, message: string) => void
}

// int8 arrives as text by default. Versions, positions and epoch milliseconds stay far below 2^53.
const INT8 = 20
const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
    oid === INT8 ? Number : pg.types.getTypeParser(oid, format)) as pg.CustomTypesConfig['getTypeParser'],
}

/** What is known about a pool beside itself. */
interface Door {
  availability: Availability
  /** Connected clients, lent or idle. */
  open: Set<pg.PoolClient>
  /** Lent for work that may take its time, such as building an index. */
  patient: Set<pg.PoolClient>
  /** Lent, and not to be used again. */
  stale: WeakSet<pg.PoolClient>
  /** Refuses those who wait for a connection. */
  waiting: Set<(error: unknown) => void>
  /** performance.now() of the last answer of PostgreSQL. */
  lastAnswer: number
  onRenewed: () => void
}

const doors = new WeakMap<object, Door>()

function isPool(on: Queryable): on is Pool {
  return doors.has(on)
}

function doorOf(pool: Pool): Door {
  const door = doors.get(pool)
  if (door === undefined) throw new Error('a pool that openPool has not opened')
  return door
}

/**
 * Opens a pool whose sessions fail fast: a statement, a lock or an idle transaction past its limit ends with an
 * SQLSTATE instead of holding a connection for ever, and nobody waits for a PostgreSQL that is known to be away. No
 * connection is made until the first query.
 */
export function openPool(options: PoolOptions): Pool {
  const urls = serversOf(options.url)
  const settings = {
    connectionString: urls[0] ?? options.url,
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
  }
  const pool = new pg.Pool(settings)
  const open = new Set<pg.PoolClient>()
  const lent = new Set<pg.PoolClient>()
  const door: Door = {
    open,
    patient: new Set(),
    stale: new WeakSet(),
    waiting: new Set(),
    lastAnswer: 0,
    onRenewed: () => {},
    availability: createAvailability({
      urls,
      connectTimeoutMs: options.connectTimeoutMs,
      ended: () => pool.ending,
      current: () => currentUrl(pool),
      log: options.onAvailability ?? (() => {}),
      breakConnections(all) {
        for (const client of open) if (all || !door.patient.has(client)) breakOff(client)
        for (const refuse of door.waiting) refuse(new Error('Connection terminated: PostgreSQL is away'))
      },
      renew(url) {
        Object.assign(pool.options, { connectionString: url })
        for (const client of open) {
          if (lent.has(client)) door.stale.add(client)
          else breakOff(client)
        }
        door.onRenewed()
      },
      returned: () => door.onRenewed(),
    }),
  }
  pool.on('error', (error) => {
    door.availability.reach.look()
    if (!brokenOff.has(error)) options.onIdleError(error)
  })
  pool.on('connect', (client) => open.add(client))
  pool.on('acquire', (client) => lent.add(client))
  pool.on('release', (_error, client) => lent.delete(client))
  pool.on('remove', (client) => open.delete(client))
  doors.set(pool, door)
  return pool
}

/** Errors of connections that were broken on purpose. */
const brokenOff = new WeakSet<Error>()

/** Ends a connection at once, without a goodbye that would wait for a server that is stuck. */
function breakOff(client: pg.PoolClient): void {
  const { stream } = (client as unknown as { connection: { stream: Socket } }).connection
  const error = new Error('Connection terminated on purpose')
  brokenOff.add(error)
  stream.destroy(error)
}

/** Whether PostgreSQL can be reached and written to, as far as this process knows. */
export function availabilityOf(pool: Pool): Availability {
  return doorOf(pool).availability
}

/** The connection string that new connections use. */
export function currentUrl(pool: Pool): string {
  return (pool.options as pg.PoolConfig).connectionString ?? ''
}

/** Milliseconds since PostgreSQL last answered anybody. */
export function silenceOf(pool: Pool): number {
  return performance.now() - doorOf(pool).lastAnswer
}

/** Calls back when connections are to be made anew: another server is used, this one has changed, or is back. */
export function whenRenewed(pool: Pool, listener: () => void): void {
  doorOf(pool).onRenewed = listener
}

/**
 * Runs one statement and translates what goes wrong into the catalogue's errors.
 * @param name Names the prepared statement; give one to statements on a hot path only.
 */
export function query<Row extends pg.QueryResultRow>(
  on: Queryable,
  text: string,
  values: readonly unknown[] = [],
  name?: string,
): Promise<Row[]> {
  const watched = activity()
  if (watched !== undefined) {
    const operation = { name: name ?? firstWords(text), store: 'postgresql' as const }
    return watched.step(operation, () => run<Row>(on, text, values, name))
  }
  return run<Row>(on, text, values, name)
}

/** What a statement without a name does, such as "SELECT collection". */
function firstWords(text: string): string {
  return text.trim().split(/\W+/, 2).join(' ')
}

async function run<Row extends pg.QueryResultRow>(
  on: Queryable,
  text: string,
  values: readonly unknown[],
  name: string | undefined,
): Promise<Row[]> {
  if (isPool(on)) return withConnection(on, ({ client }) => run<Row>(client, text, values, name))
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
export async function withConnection<T>(
  pool: Pool,
  work: (lent: Lent) => Promise<T>,
  { patient = false } = {},
): Promise<T> {
  const door = doorOf(pool)
  const client = await acquire(pool, door)
  if (patient) door.patient.add(client)
  let broken: Error | undefined
  // The pool listens only to idle connections. Without a listener, one that breaks here would end the process.
  const discard = (error: Error) => {
    broken ??= error
  }
  client.on('error', discard)
  try {
    const result = await work({ client, discard })
    door.lastAnswer = performance.now()
    return result
  } catch (error) {
    judge(door, error, discard)
    throw error
  } finally {
    client.off('error', discard)
    door.patient.delete(client)
    client.release(broken ?? door.stale.has(client))
  }
}

/** What a failure tells about PostgreSQL itself. */
function judge(door: Door, error: unknown, discard: (error: Error) => void): void {
  if (codeOf(error) === READ_ONLY) {
    discard(error as Error)
    door.availability.writes.look()
  } else if (isAway(error)) {
    discard(error as Error)
    door.availability.reach.look()
  } else {
    door.lastAnswer = performance.now()
  }
}

/** How long to go on when PostgreSQL has no connection left; nothing has been sent yet, so it can be asked again. */
const FULL_MS = 400
const FULL_PAUSE_MS = 40

async function acquire(pool: Pool, door: Door): Promise<pg.PoolClient> {
  const deadline = performance.now() + FULL_MS
  for (;;) {
    door.availability.reach.check()
    try {
      return await connect(pool, door)
    } catch (error) {
      if (codeOf(error) === TOO_MANY_CONNECTIONS && performance.now() < deadline) {
        // One of this process may be free by then.
        await delay(FULL_PAUSE_MS)
        continue
      }
      if (isAway(error)) door.availability.reach.look()
      throw storeError(error)
    }
  }
}

/** A connection of the pool, unless PostgreSQL goes away while it is waited for. */
function connect(pool: Pool, door: Door): Promise<pg.PoolClient> {
  return new Promise((resolve, reject) => {
    const refuse = (error: unknown) => {
      door.waiting.delete(refuse)
      reject(error)
    }
    door.waiting.add(refuse)
    pool.connect((error, client, release) => {
      const wanted = door.waiting.delete(refuse)
      if (error !== undefined || client === undefined) reject(error)
      else if (wanted) resolve(client)
      else release()
    })
  })
}

/**
 * Runs statements without a time limit, one after the other on one connection outside a transaction: for building
 * indexes, which takes as long as the collection is large.
 */
export async function runUnlimited(pool: Pool, statements: readonly string[]): Promise<void> {
  if (statements.length === 0) return
  const run = async ({ client, discard }: Lent) => {
    try {
      await query(client, 'SET statement_timeout = 0')
      for (const statement of statements) await query(client, statement)
      await query(client, 'RESET statement_timeout')
    } catch (error) {
      discard(error as Error)
      throw error
    }
  }
  await withConnection(pool, run, { patient: true })
}

import { setTimeout as delay } from 'node:timers/promises'
import { DualstoreError } from '../errors.js'
import { type Pool, type Queryable, withConnection } from './pool.js'
import { isRetryable, storeError } from './sqlstate.js'

const ATTEMPTS = 5

/**
 * The one door to a transaction. Commits when `work` resolves, rolls back when it rejects, and runs the whole
 * of `work` again, up to five times with a growing pause, when PostgreSQL says that nothing was committed and
 * a retry may succeed (see sqlstate.ts). `work` must therefore have no effect outside the transaction.
 * @throws STORE_UNAVAILABLE when the connection breaks. When it broke during COMMIT, the work may stand all the same.
 */
export async function transaction<T>(pool: Pool, work: (tx: Queryable) => Promise<T>): Promise<T> {
  return retrying(() =>
    withConnection(pool, async ({ client, discard }) => {
      try {
        await client.query('BEGIN')
        const result = await work(client)
        const end = await client.query('COMMIT')
        // PostgreSQL answers the COMMIT of a failed transaction with ROLLBACK, and raises nothing.
        if (end.command !== 'COMMIT') {
          throw new DualstoreError(
            'INTERNAL',
            'a failed statement was ignored, and its transaction was rolled back',
          )
        }
        return result
      } catch (error) {
        // A connection that cannot even roll back is thrown away, and the first error is the one that counts.
        await client.query('ROLLBACK').catch(discard)
        throw storeError(error)
      }
    }),
  )
}

/** Reads the one state that a snapshot shows. */
export type ReadSnapshot = <T>(work: (tx: Queryable) => Promise<T>) => Promise<T>

/**
 * Lets `work` see one state of the database, however long it takes. Each reading gives its locks on tables back when it
 * is done: who alters or drops a table does not wait for the end, and nobody queues behind him. What the state needs is
 * kept from vacuum until the end. Not retried.
 */
export async function snapshot<T>(pool: Pool, work: (read: ReadSnapshot) => Promise<T>): Promise<T> {
  return withConnection(pool, async ({ client, discard }) => {
    const read: ReadSnapshot = async (reading) => {
      await client.query('SAVEPOINT reading')
      const result = await reading(client)
      await client.query('ROLLBACK TO SAVEPOINT reading')
      return result
    }
    try {
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY')
      await unlimited(client)
      const result = await work(read)
      await client.query('COMMIT')
      return result
    } catch (error) {
      await client.query('ROLLBACK').catch(discard)
      throw storeError(error)
    }
  })
}

/** Lifts the limits of time from the rest of a transaction that is as long as its data is large. */
export async function unlimited(tx: Queryable): Promise<void> {
  await tx.query('SET LOCAL statement_timeout = 0')
  await tx.query('SET LOCAL idle_in_transaction_session_timeout = 0')
}

/** Runs `attempt` again while it fails with a retryable SQLSTATE, at most five times in all. */
export async function retrying<T>(attempt: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await attempt()
    } catch (error) {
      if (tries >= ATTEMPTS || !isRetryable(error)) throw error
      await delay(2 ** tries * 5 * (0.5 + Math.random()))
    }
  }
}

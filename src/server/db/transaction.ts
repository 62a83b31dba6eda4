import { setTimeout as delay } from 'node:timers/promises'
import type { Pool, Queryable } from './pool.js'
import { isRetryable, storeError } from './sqlstate.js'

const ATTEMPTS = 5

/**
 * The one door to a transaction. Commits when `work` resolves, rolls back when it rejects, and runs the whole
 * of `work` again, up to five times with a growing pause, when PostgreSQL says that nothing was committed and
 * a retry may succeed (see sqlstate.ts). `work` must therefore have no effect outside the transaction.
 */
export async function transaction<T>(pool: Pool, work: (tx: Queryable) => Promise<T>): Promise<T> {
  return retrying(async () => {
    const client = await pool.connect().catch((error: unknown) => {
      throw storeError(error)
    })
    let broken: Error | undefined
    try {
      await client.query('BEGIN')
      const result = await work(client)
      await client.query('COMMIT')
      return result
    } catch (error) {
      // A connection that cannot even roll back is thrown away, and the first error is the one that counts.
      await client.query('ROLLBACK').catch((rollbackError: Error) => {
        broken = rollbackError
      })
      throw storeError(error)
    } finally {
      client.release(broken)
    }
  })
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

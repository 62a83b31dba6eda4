import pg from 'pg'
import { describe, expect, test } from 'vitest'
import { codeOf, isRetryable, isUnavailable, storeError } from '../../../src/server/db/sqlstate.js'
import { DualstoreError } from '../../../src/server/errors.js'
import { testDatabase } from '../../support/database.js'

const { pool, url } = await testDatabase()

/** The error that PostgreSQL itself raises with a code, not one made by hand. */
async function raised(sqlstate: string): Promise<unknown> {
  return pool.query(`DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '${sqlstate}'; END $$`).then(
    () => undefined,
    (error: unknown) => error,
  )
}

describe('an SQLSTATE decides', () => {
  test.each(['40001', '40P01', '55P03'])('%s is run again', async (code) => {
    const error = await raised(code)
    expect(codeOf(error)).toBe(code)
    expect([isRetryable(error), isUnavailable(error)]).toEqual([true, false])
    expect(storeError(error)).toBe(error)
  })

  test.each(['25006', '53100', '53300', '53400', '57014', '57P03', '57P05', '58030', '08006', '25P03'])(
    '%s is an outage',
    async (code) => {
      const error = await raised(code)
      expect([isRetryable(error), isUnavailable(error)]).toEqual([false, true])
      expect(storeError(error)).toMatchObject({ code: 'STORE_UNAVAILABLE', status: 503, cause: error })
    },
  )

  test.each(['23505', '23514', '22P02', '42P01', '42501', 'P0001'])('%s is neither', async (code) => {
    const error = await raised(code)
    expect([isRetryable(error), isUnavailable(error)]).toEqual([false, false])
    expect(storeError(error)).toBe(error)
  })
})

describe('without an SQLSTATE', () => {
  test('a client that was closed is an outage', async () => {
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    await client.end()
    await expect(client.query('SELECT 1')).rejects.toSatisfy(isUnavailable)
  })

  test('a pool that was ended is an outage', async () => {
    const ended = new pg.Pool({ connectionString: url })
    await ended.end()
    await expect(ended.query('SELECT 1')).rejects.toSatisfy(isUnavailable)
  })

  test('a host name that does not exist is an outage', async () => {
    const client = new pg.Client({ host: 'no-such-host.invalid' })
    await expect(client.connect()).rejects.toSatisfy(isUnavailable)
    await client.end()
  })

  test('our own wrapper shows the code of its cause, and is not wrapped again', async () => {
    const wrapped = storeError(await raised('57014'))
    expect(codeOf(wrapped)).toBe('57014')
    expect(storeError(wrapped)).toBe(wrapped)
  })

  test.each([new Error('boom'), new DualstoreError('CONFLICT', 'x'), 'text', null, undefined])(
    'anything else is none of them (%s)',
    (error) => {
      expect([isRetryable(error), isUnavailable(error)]).toEqual([false, false])
      expect(storeError(error)).toBe(error)
    },
  )
})

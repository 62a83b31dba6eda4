import { beforeEach, expect, test } from 'vitest'
import { openPool, type Queryable, query } from '../../../src/server/db/pool.js'
import { retrying, transaction } from '../../../src/server/db/transaction.js'
import { testDatabase } from '../../support/database.js'

const { pool, url } = await testDatabase()
await pool.query('CREATE TABLE public.accounts (id integer PRIMARY KEY, amount integer NOT NULL)')

beforeEach(async () => {
  await pool.query('TRUNCATE public.accounts; INSERT INTO public.accounts VALUES (1, 0), (2, 0)')
})

const add = (tx: Queryable, id: number) =>
  tx.query('UPDATE public.accounts SET amount = amount + 1 WHERE id = $1', [id])
const amounts = async () =>
  (await pool.query<{ amount: number }>('SELECT amount FROM public.accounts ORDER BY id')).rows.map(
    (row) => row.amount,
  )
const backend = async (on: Queryable) =>
  (await on.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]!.pid

/** Resolves when it has been called `count` times. */
function meeting(count: number): () => Promise<void> {
  let all: () => void
  const met = new Promise<void>((done) => {
    all = done
  })
  return () => {
    if (--count === 0) all()
    return met
  }
}

test('a real deadlock is retried, and both transactions commit', async () => {
  const met = meeting(2)
  let attempts = 0
  const transfer = (first: number, second: number) =>
    transaction(pool, async (tx) => {
      attempts++
      await add(tx, first)
      await met()
      await add(tx, second)
    })
  await Promise.all([transfer(1, 2), transfer(2, 1)])
  expect(await amounts()).toEqual([2, 2])
  expect(attempts).toBe(3)
})

test('a serialization failure is retried, and both transactions commit', async () => {
  const met = meeting(2)
  let attempts = 0
  const copyOver = (from: number, to: number) =>
    transaction(pool, async (tx) => {
      attempts++
      await tx.query('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE')
      const { rows } = await tx.query('SELECT amount FROM public.accounts WHERE id = $1', [from])
      await met()
      await tx.query('UPDATE public.accounts SET amount = $1 WHERE id = $2', [rows[0].amount + 1, to])
    })
  await Promise.all([copyOver(1, 2), copyOver(2, 1)])
  // One after the other: 1, and then 1 more than that. Both from 0 would be write skew.
  expect((await amounts()).sort()).toEqual([1, 2])
  expect(attempts).toBe(3)
})

test('an error that a retry cannot help is thrown once, and nothing is kept', async () => {
  let attempts = 0
  const failing = transaction(pool, async (tx) => {
    attempts++
    await add(tx, 1)
    await tx.query('INSERT INTO public.accounts VALUES (1, 1)')
  })
  await expect(failing).rejects.toMatchObject({ code: '23505' })
  expect(attempts).toBe(1)
  expect(await amounts()).toEqual([0, 0])
})

test('what fails every time is given up after five attempts', async () => {
  let attempts = 0
  const failing = retrying(async () => {
    attempts++
    throw Object.assign(new Error('again'), { code: '40001' })
  })
  await expect(failing).rejects.toMatchObject({ code: '40001' })
  expect(attempts).toBe(5)
})

test('work that swallowed a failed statement does not pass for committed', async () => {
  const swallowing = transaction(pool, async (tx) => {
    await add(tx, 1)
    await tx.query('SELECT 1/0').catch(() => {})
  })
  await expect(swallowing).rejects.toMatchObject({ code: 'INTERNAL' })
  expect(await amounts()).toEqual([0, 0])
})

test('a connection that breaks between two statements is thrown away and its work fails as unavailable', async () => {
  let broken = 0
  const failing = transaction(pool, async (tx) => {
    broken = await backend(tx)
    await pool.query('SELECT pg_terminate_backend($1)', [broken])
    await sessionEnded(broken)
    await add(tx, 1)
  })
  await expect(failing).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE', status: 503, retryable: true })
  expect(pool.idleCount).toBe(pool.totalCount)
  expect(await transaction(pool, backend)).not.toBe(broken)
  expect(await amounts()).toEqual([0, 0])
})

test('a connection that breaks during a statement fails it as unavailable', async () => {
  const failing = transaction(pool, async (tx) => {
    const pid = await backend(tx)
    await Promise.all([tx.query('SELECT pg_sleep(20)'), pool.query('SELECT pg_terminate_backend($1)', [pid])])
  })
  await expect(failing).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
})

test('a statement past its time limit is unavailable, and its connection is used again', async () => {
  const small = openPool({ ...options, url, size: 1, statementTimeoutMs: 100 })
  try {
    const pid = await transaction(small, backend)
    await expect(transaction(small, (tx) => tx.query('SELECT pg_sleep(20)'))).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
    })
    expect(await transaction(small, backend)).toBe(pid)
    await expect(query(small, 'SELECT pg_sleep(20)')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
  } finally {
    await small.end()
  }
})

test('waiting for a connection of an exhausted pool ends in time', async () => {
  const small = openPool({ ...options, url, size: 1, connectTimeoutMs: 1000 })
  try {
    await transaction(small, async () => {
      await expect(transaction(small, backend)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
      await expect(query(small, 'SELECT 1')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
    })
  } finally {
    await small.end()
  }
})

test('a refused connection is unavailable at once', async () => {
  const refused = new URL(url)
  refused.port = '1'
  const nowhere = openPool({ ...options, url: refused.href })
  try {
    const started = performance.now()
    await expect(transaction(nowhere, backend)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
    await expect(query(nowhere, 'SELECT 1')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
    // Far below the 2 s a request may wait for a connection: there is none to be had.
    expect(performance.now() - started).toBeLessThan(1000)
  } finally {
    await nowhere.end()
  }
})

test('every connection is back in the pool whatever happened to its work', async () => {
  await Promise.allSettled(
    Array.from({ length: 30 }, (_, n) =>
      transaction(pool, async (tx) => {
        await add(tx, 1)
        if (n % 3 === 0) throw new Error('own error')
        if (n % 3 === 1) await tx.query('SELECT 1/0')
      }),
    ),
  )
  expect(pool.idleCount).toBe(pool.totalCount)
  expect(pool.waitingCount).toBe(0)
  expect(await amounts()).toEqual([10, 0])
})

const options = {
  size: 2,
  connectTimeoutMs: 2000,
  statementTimeoutMs: 5000,
  applicationName: 'transaction test',
  onIdleError: () => {},
}

async function sessionEnded(pid: number): Promise<void> {
  while ((await pool.query('SELECT FROM pg_stat_activity WHERE pid = $1', [pid])).rowCount !== 0);
}

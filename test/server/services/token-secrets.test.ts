import { beforeEach, expect, test, vi } from 'vitest'
import { createTokenSecrets, MAX_TOKEN_LIFETIME_MS } from '../../../src/server/services/token-secrets.js'
import { testDatabase } from '../../support/database.js'

const DAY_MS = 86_400_000
const SKEW_MS = 30_000

const { pool, close } = await testDatabase()
const instance = (rotationMs = DAY_MS) => createTokenSecrets({ pool, rotationMs, clockSkewMs: SKEW_MS })
const age = (kid: string, ms: number) =>
  pool.query(
    'UPDATE dualstore.token_secrets SET created_at = created_at - $2, expires_at = expires_at - $2 WHERE kid = $1',
    [kid, ms],
  )
const kids = async () => {
  const { rows } = await pool.query('SELECT kid FROM dualstore.token_secrets ORDER BY kid')
  return rows.map(({ kid }) => kid as string)
}

beforeEach(async () => {
  await pool.query('DELETE FROM dualstore.token_secrets')
})

test('the first secret is made when it is needed, and signs for every instance until it is rotated', async () => {
  const first = await instance().signing()
  expect(first.secret.length).toBeGreaterThanOrEqual(32)
  expect(first.expires_at - first.created_at).toBe(DAY_MS + MAX_TOKEN_LIFETIME_MS + SKEW_MS)
  expect((await instance().signing()).kid).toBe(first.kid)
  expect(await instance().find(first.kid)).toEqual(first)
  expect(await kids()).toEqual([first.kid])
})

test('a rotated secret verifies until its last token has expired, and is forgotten then', async () => {
  const secrets = instance()
  const first = await secrets.signing()
  await age(first.kid, DAY_MS)
  const second = await secrets.signing()
  expect(second.kid).not.toBe(first.kid)
  expect(second.secret.equals(first.secret)).toBe(false)
  expect((await instance().find(first.kid))?.secret).toEqual(first.secret)

  await age(first.kid, MAX_TOKEN_LIFETIME_MS + SKEW_MS)
  expect(await instance().find(first.kid)).toBeUndefined()
  await age(second.kid, DAY_MS)
  const third = await secrets.signing()
  expect(await kids()).toEqual([second.kid, third.kid].sort())
})

test('instances that rotate at once verify what each of them signed', async () => {
  const made = await Promise.all([instance().signing(), instance().signing(), instance().signing()])
  const other = instance()
  for (const { kid } of made) expect((await other.find(kid))?.kid).toBe(kid)
  const signers = await Promise.all([instance().signing(), instance().signing()])
  expect(new Set(signers.map(({ kid }) => kid)).size).toBe(1)
})

test('unknown names cost four readings a second at most, and what another instance just made is found among them', async () => {
  const secrets = instance()
  const reading = vi.spyOn(pool, 'query')
  const garbage = Array.from({ length: 500 }, (_, index) => secrets.find(`garbage-${index}`))
  expect(new Set(await Promise.all(garbage))).toEqual(new Set([undefined]))
  expect(reading.mock.calls.length).toBeLessThanOrEqual(2)

  const began = performance.now()
  const [made] = await Promise.all([instance().signing(), secrets.find('garbage-x')])
  expect((await secrets.find(made.kid))?.kid).toBe(made.kid)
  const fewest = Math.ceil((performance.now() - began) / 250) + 1
  // Beside the two statements that made the secret.
  expect(reading.mock.calls.length).toBeLessThanOrEqual(2 + 2 + fewest)
})

test('a secret that is gone, as after a restore, is forgotten by an instance that runs', async () => {
  const secrets = instance()
  const { kid } = await secrets.signing()
  const stop = secrets.watch(20)
  await pool.query('DELETE FROM dualstore.token_secrets')
  await vi.waitUntil(() => !secrets.has(kid), { timeout: 5000 })
  stop()
  expect((await secrets.signing()).kid).not.toBe(kid)
})

test('without PostgreSQL known secrets verify, and an unknown name is not called wrong', async () => {
  const secrets = instance()
  const { kid } = await secrets.signing()
  await close()
  expect((await secrets.find(kid))?.kid).toBe(kid)
  await expect(secrets.find('unknown-name')).rejects.toThrow()
})

import { setTimeout as delay } from 'node:timers/promises'
import { beforeAll, beforeEach, expect, test } from 'vitest'
import { openPool } from '../../../src/server/db/pool.js'
import { createKeyCache, type KeyCacheOptions } from '../../../src/server/services/key-cache.js'
import { formatKey, newSecret } from '../../../src/server/services/key-format.js'
import { createKeyUsage } from '../../../src/server/services/key-usage.js'
import { createKeyService } from '../../../src/server/services/keys.js'
import { localAccess } from '../../../src/server/services/principal.js'
import { type TestDatabase, testDatabase } from '../../support/database.js'
import { until } from '../../support/follower.js'
import { atEndOfFile } from '../../support/leaks.js'
import { type StoreProxy, startProxy } from '../../support/proxy.js'

let database: TestDatabase
let proxy: StoreProxy
beforeAll(async () => {
  database = await testDatabase()
  proxy = await startProxy(database.url)
  atEndOfFile(() => proxy.close())
})
beforeEach(() => proxy.restore())

/** Keys as an instance has them, without notifications: what it learns it learns by asking. */
function instance(options: Partial<KeyCacheOptions> = {}) {
  const pool = options.pool ?? database.pool
  const cache = createKeyCache({ pool, ...options })
  return createKeyService({ pool, cache, usage: createKeyUsage(pool) })
}

/** The same over a network that can be cut. */
function distantInstance(options: Partial<KeyCacheOptions>) {
  const pool = openPool({
    url: proxy.through(database.url),
    size: 2,
    connectTimeoutMs: 1000,
    statementTimeoutMs: 5000,
    applicationName: 'distant',
    onIdleError: () => {},
  })
  atEndOfFile(() => pool.end())
  return instance({ ...options, pool })
}

type Instance = ReturnType<typeof instance>
const make = (keys: Instance, role: 'reader' | 'admin' = 'reader') =>
  keys.create(localAccess, { name: 'a test', role })
/** What authentication leads to: the principal's id, or the code of the refusal. */
const outcome = (keys: Instance, key: string, use: 'read' | 'write' = 'read') =>
  keys.authenticator.authenticate(key, use).then(
    ({ id }) => id,
    (error) => error.code as string,
  )

test('a key that was revoked elsewhere is refused within a second, without any notification', async () => {
  const here = instance()
  const there = instance()
  const { id, key } = await make(here)
  expect(await outcome(there, key)).toBe(`key:${id}`)
  await here.revoke(localAccess, id)
  const at = performance.now()
  await until(async () => (await outcome(there, key)) === 'UNAUTHORIZED')
  expect(performance.now() - at).toBeLessThan(1200)
})

test('isActive knows what was used here, and follows what is changed', async () => {
  const here = instance()
  const there = instance()
  const { id, key } = await make(here)
  expect(there.isActive(id)).toBe(false)
  await outcome(there, key)
  expect(there.isActive(id)).toBe(true)
  await here.revoke(localAccess, id)
  expect(there.isActive(id)).toBe(true)
  await until(async () => (await outcome(there, key)) === 'UNAUTHORIZED')
  expect(there.isActive(id)).toBe(false)
})

test('ensure asks for a key that this instance has not met', async () => {
  const there = instance()
  const { id } = await make(instance())
  expect(await there.ensure(id, 'write')).toBe(true)
  expect(there.isActive(id)).toBe(true)
  expect(await there.ensure('abcdefghijkl', 'write')).toBe(false)
})

test('a key that has expired is not active any more, without anything being asked', async () => {
  const here = instance()
  const { id, key } = await here.create(localAccess, {
    name: 'short',
    role: 'reader',
    expires_at: new Date(Date.now() + 300).toISOString(),
  })
  expect(await outcome(here, key)).toBe(`key:${id}`)
  expect(here.isActive(id)).toBe(true)
  await delay(320)
  expect(here.isActive(id)).toBe(false)
})

test('listeners are called whenever this instance has learned of a change, until they stop listening', async () => {
  const here = instance()
  let calls = 0
  const stop = here.onChange(() => calls++)
  const { id } = await make(here)
  expect(calls).toBe(1)
  await here.rotate(localAccess, id, 0)
  await here.revoke(localAccess, id)
  expect(calls).toBe(3)
  stop()
  await make(here)
  expect(calls).toBe(3)
})

test('being used changes no version, so that nobody reads keys again for it', async () => {
  const usage = createKeyUsage(database.pool)
  const { id } = await make(instance())
  const version = async () =>
    (await database.pool.query('SELECT version FROM dualstore.api_keys_version')).rows[0].version
  const before = await version()
  usage.note(id)
  await usage.flush()
  const { last_used_at } = await instance().show(localAccess, id)
  expect(last_used_at).not.toBeNull()
  expect(await version()).toBe(before)
})

test('more keys than are remembered all work', async () => {
  const here = instance({ max: 2 })
  const made = await Promise.all([make(here), make(here), make(here)])
  for (const { id, key } of [...made, ...made]) expect(await outcome(here, key)).toBe(`key:${id}`)
  expect(made.filter(({ id }) => here.isActive(id))).toHaveLength(2)
})

test('a version that goes backwards, as after a restore, makes it forget everything', async () => {
  const here = instance({ freshMs: 0 })
  const { id, key } = await make(here)
  expect(await outcome(here, key)).toBe(`key:${id}`)
  await withoutTriggers(async (client) => {
    await client.query('DELETE FROM dualstore.api_keys WHERE id = $1', [id])
    await client.query('UPDATE dualstore.api_keys_version SET version = 1')
  })
  expect(await outcome(here, key)).toBe('UNAUTHORIZED')
  const fresh = await make(here)
  expect(await outcome(here, fresh.key)).toBe(`key:${fresh.id}`)
})

test('while PostgreSQL is away a known key reads for a while, writes nothing, and unknown ones are told to wait', async () => {
  const here = distantInstance({ freshMs: 50, staleMs: 1500 })
  const { id, key } = await make(here)
  const unknown = formatKey({ id: 'abcdefghijkl', secret: newSecret() })
  const wrong = formatKey({ id, secret: newSecret() })
  expect(await outcome(here, key)).toBe(`key:${id}`)
  proxy.cut()
  const at = performance.now()
  await delay(60)
  expect(await outcome(here, key, 'read')).toBe(`key:${id}`)
  expect(await outcome(here, key, 'write')).toBe('STORE_UNAVAILABLE')
  expect(await outcome(here, unknown)).toBe('STORE_UNAVAILABLE')
  expect(await outcome(here, wrong)).toBe('STORE_UNAVAILABLE')
  expect(await outcome(here, 'dsk_garbage')).toBe('UNAUTHORIZED')
  expect(here.isActive(id)).toBe(true)
  await until(async () => (await outcome(here, key, 'read')) === 'STORE_UNAVAILABLE')
  expect(performance.now() - at).toBeGreaterThan(1000)
  proxy.restore()
  await until(async () => (await outcome(here, key, 'write')) === `key:${id}`)
})

test('behind an outage everything is read again, even when as many changes were counted', async () => {
  const here = distantInstance({ freshMs: 50 })
  const { id, key } = await make(here)
  expect(await outcome(here, key)).toBe(`key:${id}`)
  proxy.cut()
  await delay(60)
  expect(await outcome(here, key, 'write')).toBe('STORE_UNAVAILABLE')
  await withoutTriggers((client) => client.query('DELETE FROM dualstore.api_keys WHERE id = $1', [id]))
  proxy.restore()
  await until(async () => (await outcome(here, key)) === 'UNAUTHORIZED')
})

type Client = Pick<TestDatabase['pool'], 'query'>

/** Changes keys as the restore of a backup does, without the triggers. */
async function withoutTriggers(work: (client: Client) => Promise<unknown>): Promise<void> {
  const client = await database.pool.connect()
  await client.query("SET session_replication_role = 'replica'")
  await work(client)
  await client.query('RESET session_replication_role')
  client.release()
}

import pg from 'pg'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { CHANGES_CHANNEL, createHints } from '../../../src/server/changes/hints.js'
import { type Listener, listen } from '../../../src/server/db/listen.js'
import { testDatabase } from '../../support/database.js'
import { insertMessages, testFollower, testMirror, until } from '../../support/follower.js'
import { startProxy } from '../../support/proxy.js'

const { pool, url } = await testDatabase()
let listeners: Listener[] = []
let told = { notifications: 0, connected: 0, errors: 0, silences: 0 }

beforeEach(() => {
  told = { notifications: 0, connected: 0, errors: 0, silences: 0 }
})
afterEach(async () => {
  for (const listener of listeners) listener.stop()
  listeners = []
})

async function listening(on = url): Promise<void> {
  const listener = listen({
    url: () => on,
    channels: [CHANGES_CHANNEL],
    onNotification: () => told.notifications++,
    onConnected: () => told.connected++,
    onError: (_error, first) => first && told.errors++,
    onSilence: () => told.silences++,
    silenceMs: 500,
    heard: () => Number.POSITIVE_INFINITY,
  })
  listeners.push(listener)
  await until(() => told.connected === 1)
}

test('a thousand writes in a row make a few notifications, and at least one behind the last', async () => {
  await listening()
  const hints = createHints(pool)
  let woken = 0
  hints.on(CHANGES_CHANNEL, () => woken++)
  for (let write = 0; write < 1000; write++) {
    hints.tell(CHANGES_CHANNEL)
    if (write % 10 === 0) await pool.query('SELECT 1')
  }
  expect(woken).toBe(1000)
  await until(() => told.notifications > 0)
  const before = told.notifications
  hints.tell(CHANGES_CHANNEL)
  await until(() => told.notifications > before)
  expect(told.notifications).toBeLessThan(100)
  hints.stop()
})

test('writing does not notify: the lock that NOTIFY takes over the whole cluster is never part of a write', async () => {
  await testFollower(pool, await testMirror('embedded'))
  const other = new pg.Client({ connectionString: url })
  await other.connect()
  try {
    await other.query(`LISTEN ${CHANGES_CHANNEL}`)
    const heard: string[] = []
    other.on('notification', ({ payload = '' }) => heard.push(payload))
    await insertMessages(pool, ['quiet'])
    // Notifications come in the order of commits: one of the write would come before this one.
    await pool.query('SELECT pg_notify($1, $2)', [CHANGES_CHANNEL, 'end'])
    await until(() => heard.length > 0)
    expect(heard).toEqual(['end'])
  } finally {
    await other.end()
  }
})

test('a listening connection that is terminated comes back, and says that hints may have been missed', async () => {
  await listening()
  await pool.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'dualstore listen'`,
  )
  await until(() => told.errors === 1)
  await until(() => told.connected === 2)
  await pool.query('SELECT pg_notify($1, $2)', [CHANGES_CHANNEL, ''])
  await until(() => told.notifications === 1)
  expect(told.silences).toBe(0)
})

test('without any hint, polling alone brings changes to the follower', async () => {
  const { follower, progress } = await testFollower(pool, await testMirror('embedded'))
  follower.run()
  await until(() => progress.position > 0)
  const before = progress.position
  await insertMessages(pool, ['polled'])
  await until(() => progress.position === before + 1)
})

test('PostgreSQL that stops answering is noticed, once it answers again listening goes on', async () => {
  const proxy = await startProxy(url)
  await listening(proxy.through(url))
  proxy.freeze()
  const asked = performance.now()
  await until(() => told.silences === 1)
  expect(performance.now() - asked).toBeLessThan(3000)
  proxy.restore()
  await until(() => told.connected === 2)
  expect(told.errors).toBe(1)
  for (const listener of listeners.splice(0)) listener.stop()
  await proxy.close()
})

test('stopping while nothing can be reached does not wait for the connection attempt', async () => {
  const proxy = await startProxy(url)
  proxy.freeze()
  const listener = listen({
    url: () => proxy.through(url),
    channels: [CHANGES_CHANNEL],
    onNotification: () => {},
    onConnected: () => {},
    onError: () => {},
    onSilence: () => {},
    silenceMs: 500,
    heard: () => Number.POSITIVE_INFINITY,
  })
  const asked = performance.now()
  listener.stop()
  expect(performance.now() - asked).toBeLessThan(1000)
  await proxy.close()
})

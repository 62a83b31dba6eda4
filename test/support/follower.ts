import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { createHints, type Hints } from '../../src/server/changes/hints.js'
import { readHead } from '../../src/server/changes/read.js'
import type { Pool } from '../../src/server/db/pool.js'
import type { Follower, Log } from '../../src/server/followers/contract.js'
import { createMirrorFollower, MIRROR_FOLLOWER } from '../../src/server/followers/mirror.js'
import { createProgress, type MutableProgress } from '../../src/server/followers/progress.js'
import type { Mirror } from '../../src/server/mirror/contract.js'
import { openEmbeddedMirror } from '../../src/server/mirror/embedded.js'
import { openMongoMirror } from '../../src/server/mirror/mongo.js'
import type { CollectionDefinition } from '../../src/server/schemas/collection.js'
import type { Item } from '../../src/server/schemas/item.js'
import { shippedCollections } from '../../src/server/schemas/shipped-collections.js'
import { ensureShipped } from '../../src/server/services/collections.js'
import { createRegistry } from '../../src/server/services/registry.js'
import { readFollowers } from '../../src/server/store/positions.js'
import { atEndOfFile } from './leaks.js'
import type { MirrorKind } from './server.js'

export const messages = shippedCollections.find(
  ({ name }) => name === 'session_messages',
) as CollectionDefinition

/** A mirror of the kind, empty and closed after the file's last test. */
export async function testMirror(kind: MirrorKind, mongoUri?: string): Promise<Mirror> {
  if (kind === 'mongodb') {
    const database = `dualstore_test_${randomBytes(6).toString('hex')}`
    const mirror = openMongoMirror({ uri: mongoUri ?? '', database, prefix: 'duck', timeoutMs: 3000 })
    atEndOfFile(() => mirror.close())
    return mirror
  }
  const directory = await mkdtemp(join(tmpdir(), 'dualstore-test-'))
  const mirror = openEmbeddedMirror({ directory })
  atEndOfFile(async () => {
    await mirror.close()
    await rm(directory, { recursive: true, force: true })
  })
  return mirror
}

export interface TestFollower {
  follower: Follower
  progress: MutableProgress
  hints: Hints
  /** Messages it has logged. */
  logged: string[]
}

/** A mirror follower as the server runs it. It is stopped after the file's last test, if not before. */
export async function testFollower(
  pool: Pool,
  mirror: Mirror,
  options: { instance?: string; timeoutMs?: number } = {},
): Promise<TestFollower> {
  await ensureShipped(pool)
  const registry = createRegistry(pool)
  const hints = createHints(pool)
  const progress = createProgress()
  const logged: string[] = []
  const write = (_fields: object, message: string) => void logged.push(message)
  const log: Log = { debug: write, info: write, warn: write, error: write }
  const follower = createMirrorFollower({
    instance: options.instance ?? randomBytes(4).toString('hex'),
    pool,
    hints,
    log,
    progress,
    mirror,
    definition: registry.definition,
    timeoutMs: options.timeoutMs ?? 3000,
    pollMs: 20,
  })
  atEndOfFile(async () => {
    await follower.stop()
    hints.stop()
  })
  return { follower, progress, hints, logged }
}

/** Writes as psql would: straight into the table, without the program. */
export async function insertMessages(pool: Pool, ids: readonly string[], content = 'hello'): Promise<void> {
  await pool.query(
    `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
     SELECT 'session_messages', id, jsonb_build_object('id', id, 'created_at', '2026-01-01T00:00:00.000Z',
       'updated_at', '2026-01-01T00:00:00.000Z', 'session_id', 's', 'role', 'user', 'content', $2::text), 1, 1
     FROM unnest($1::text[]) id`,
    [ids, content],
  )
}

export async function updateMessages(pool: Pool, ids: readonly string[], content: string): Promise<void> {
  await pool.query(
    `UPDATE dualstore.documents SET item = item || jsonb_build_object('content', $2::text)
     WHERE collection = 'session_messages' AND id = ANY ($1)`,
    [ids, content],
  )
}

export async function deleteMessages(pool: Pool, ids: readonly string[]): Promise<void> {
  await pool.query(
    `DELETE FROM dualstore.documents WHERE collection = 'session_messages' AND id = ANY ($1)`,
    [ids],
  )
}

/** Waits until the stored position of the mirror is the head of the log; tells what keeps it when it is not. */
export async function caughtUp(pool: Pool, withinMs = 25_000): Promise<void> {
  let seen: unknown
  const isThere = async () => {
    const [follower] = (await readFollowers(pool)).filter(({ id }) => id === MIRROR_FOLLOWER)
    const { position } = await readHead(pool)
    seen = { ...follower, head: position }
    return follower?.position === position
  }
  await until(isThere, withinMs).catch((cause: unknown) => {
    throw new Error(`the mirror has not caught up: ${JSON.stringify(seen)}`, { cause })
  })
}

/** Looks again and again until it is so; fails when the time is up. */
export async function until(condition: () => boolean | Promise<boolean>, withinMs = 15_000): Promise<void> {
  const deadline = Date.now() + withinMs
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not so within ${withinMs} ms: ${condition}`)
    await delay(10)
  }
}

/** The oracle: the mirror holds exactly the messages of PostgreSQL, apart from the ids left out. */
export async function expectEqual(pool: Pool, mirror: Mirror, except: readonly string[] = []): Promise<void> {
  const { rows } = await pool.query<{ item: Item; version: number }>(
    `SELECT item, version FROM dualstore.documents
     WHERE collection = 'session_messages' AND id <> ALL ($1) ORDER BY id`,
    [except],
  )
  const mirrored: typeof rows = []
  for await (const { item, version } of mirror.scan(messages)) {
    if (!except.includes(item.id)) mirrored.push({ item, version })
  }
  expect(mirrored).toEqual(rows)
}

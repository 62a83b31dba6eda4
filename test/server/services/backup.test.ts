import { createReadStream } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { createGunzip, gunzipSync, gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createHints } from '../../../src/server/changes/hints.js'
import { readHead } from '../../../src/server/changes/read.js'
import type { Pool } from '../../../src/server/db/pool.js'
import type { Mirror } from '../../../src/server/mirror/contract.js'
import { createBackupService, readManifest } from '../../../src/server/services/backup.js'
import { ensureShipped } from '../../../src/server/services/collections.js'
import { localAccess } from '../../../src/server/services/principal.js'
import { readFollowers } from '../../../src/server/store/positions.js'
import { createDatabase, type TestDatabase } from '../../support/database.js'
import { serverOfFile } from '../../support/file-mongo.js'
import {
  caughtUp,
  deleteMessages,
  expectEqual,
  insertMessages,
  messages,
  testFollower,
  testMirror,
  until,
  updateMessages,
} from '../../support/follower.js'
import { mirrorKinds, testServer } from '../../support/server.js'

const mongo = await serverOfFile()

let databases: TestDatabase[] = []
let pool: Pool
const database = async () => {
  const made = await createDatabase()
  databases.push(made)
  await ensureShipped(made.pool)
  return made.pool
}
beforeEach(async () => {
  pool = await database()
})
afterEach(async () => {
  for (const made of databases) await made.close()
  databases = []
})

const numbered = (count: number, name = 'm') => Array.from({ length: count }, (_, index) => `${name}${index}`)
const serviceOn = (on: Pool, mirror?: Mirror) =>
  createBackupService({ pool: on, hints: createHints(on), mirror })

/** Backs a database up into memory. */
async function backup(on: Pool, options: { withKeys?: boolean } = {}): Promise<string> {
  const parts: string[] = []
  await serviceOn(on).backup(
    async (chunks) => {
      for await (const chunk of chunks) parts.push(chunk)
    },
    { program: 'test', ...options },
  )
  return parts.join('')
}

const opened = (archive: string | Buffer) => () =>
  Readable.from([Buffer.from(archive)], { objectMode: false })

async function restore(
  on: Pool,
  archive: string | Buffer,
  {
    mirror,
    ...request
  }: { mirror?: Mirror; replace?: boolean; withKeys?: boolean; skipMirror?: boolean } = {},
) {
  const hints = createHints(on)
  const report = await createBackupService({ pool: on, hints, mirror }).restore(
    localAccess,
    opened(archive),
    request,
  )
  await hints.stop()
  return report
}

/** Everything that a backup holds, as PostgreSQL tells it. */
async function contents(on: Pool) {
  const documents = await on.query(
    `SELECT collection, id, version, item::text, created_at, updated_at FROM dualstore.documents ORDER BY 1, 2`,
  )
  const collections = await on.query(
    `SELECT name, definition, version, created_at::text, updated_at::text FROM dualstore.collections
     WHERE state = 'active' ORDER BY name`,
  )
  return { documents: documents.rows, collections: collections.rows }
}

async function insertItems(on: Pool, items: readonly { id: string; text: string }[]): Promise<void> {
  await on.query(
    `INSERT INTO dualstore.documents (collection, id, version, item, created_at, updated_at)
     SELECT 'agent_tasks', id, 1 + length(id), jsonb_build_object('id', id, 'value', text::jsonb), length(text), -5
     FROM unnest($1::text[], $2::text[]) AS t(id, text)`,
    [items.map(({ id }) => id), items.map(({ text }) => text)],
  )
}

describe('a round trip', () => {
  test('gives back every document with its version and times, and every definition', async () => {
    await insertMessages(pool, numbered(2500))
    await updateMessages(pool, numbered(700), 'changed')
    await deleteMessages(pool, numbered(50))
    await insertItems(pool, [
      { id: 'numbers', text: '[1.0, 1e400, 12345678901234567890.5, -0, 0.10]' },
      { id: 'quote"\\ \u2028 \u{1F600}', text: '"\u2028\u2029 \\u0001 \\" \u{1F600}"' },
    ])
    const archive = await backup(pool)
    const fresh = await database()
    const report = await restore(fresh, archive, { skipMirror: true })
    expect(report).toMatchObject({ inserted: 2452, deleted: 0, unchanged: 0 })
    const [before, after] = [await contents(pool), await contents(fresh)]
    expect(after.documents).toEqual(before.documents)
    expect(after.documents.length).toBe(2452)
    // The collections were there already, so each has a version of its own.
    expect(after.collections.map(({ version: _, ...rest }) => rest)).toEqual(
      before.collections.map(({ version: _, ...rest }) => rest),
    )
    // A second archive differs from the first one only in its header.
    const body = (text: string) =>
      text
        .split('\n')
        .slice(1)
        .filter((line) => line.startsWith('{"id":'))
    expect(body(await backup(fresh))).toEqual(body(archive))
  })

  test('of any JSON', async () => {
    const fresh = await database()
    // PostgreSQL takes neither U+0000 nor half a surrogate pair.
    const storable = fc
      .jsonValue({ stringUnit: 'binary', maxDepth: 4 })
      .filter((value) => !/\\u0000|\\ud[89a-f]/i.test(JSON.stringify(value)))
    const id = fc
      .string({ unit: 'binary', minLength: 1, maxLength: 20 })
      .filter((text) => !/\0/.test(text) && text.isWellFormed())
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.tuple(id, storable), { selector: ([key]) => key, maxLength: 30 }),
        async (items) => {
          await pool.query(`DELETE FROM dualstore.documents`)
          await insertItems(
            pool,
            items.map(([key, value]) => ({ id: key, text: JSON.stringify(value) })),
          )
          await restore(fresh, await backup(pool), { replace: true, skipMirror: true })
          expect((await contents(fresh)).documents).toEqual((await contents(pool)).documents)
        },
      ),
      { numRuns: 25 },
    )
  })

  test('shows one moment, whatever is written meanwhile, and keeps nobody from creating a collection', async () => {
    await insertMessages(pool, numbered(3000))
    const before = await contents(pool)
    let parts = ''
    let first = true
    const { manifest } = await serviceOn(pool).backup(
      async (chunks) => {
        for await (const chunk of chunks) {
          parts += chunk
          if (!first) continue
          first = false
          await insertMessages(pool, numbered(10, 'late'))
          await deleteMessages(pool, numbered(100))
          await updateMessages(pool, ['m2999'], 'late')
          await pool.query(`SET lock_timeout = '2s'; SELECT dualstore.create_partition('made_meanwhile')`)
          await pool.query('SELECT dualstore.cut_log()')
        }
      },
      { program: 'test' },
    )
    expect(manifest).toMatchObject({ position: 3000, documents: 3000, keys: null })
    const fresh = await database()
    await restore(fresh, parts, { skipMirror: true })
    expect((await contents(fresh)).documents).toEqual(before.documents)
  })

  test('is refused when a collection is dropped meanwhile, instead of leaving its documents out', async () => {
    await pool.query(`INSERT INTO dualstore.collections (name, definition) VALUES ('zz', $1)`, [
      { ...messages, name: 'zz', mirror: { ...messages.mirror, collection: 'zz' } },
    ])
    await pool.query(`SELECT dualstore.create_partition('zz')`)
    await pool.query(`INSERT INTO dualstore.documents VALUES ('zz', 'a', 1, '{"id":"a"}', 1, 1)`)
    let first = true
    const dropping = serviceOn(pool).backup(
      async (chunks) => {
        for await (const _ of chunks) {
          if (!first) continue
          first = false
          await pool.query(`DELETE FROM dualstore.documents WHERE collection = 'zz'`)
          await pool.query(`SELECT dualstore.drop_partition('zz')`)
        }
      },
      { program: 'test' },
    )
    await expect(dropping).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('zz') })
  })
})

describe('a damaged archive is refused, and nothing is written', () => {
  const refused = async (on: Pool, archive: string | Buffer, message?: RegExp) => {
    const before = await readHead(on)
    await expect(restore(on, archive, { replace: true, skipMirror: true })).rejects.toMatchObject({
      code: 'INVALID_ARCHIVE',
      ...(message && { message: expect.stringMatching(message) }),
    })
    expect(await readHead(on)).toEqual(before)
    expect((await contents(on)).documents).toEqual([])
  }

  test('with any one bit flipped', async () => {
    await insertMessages(pool, numbered(20))
    const archive = Buffer.from(await backup(pool))
    await fc.assert(
      fc.asyncProperty(fc.nat(archive.length - 1), fc.nat(7), async (at, bit) => {
        const flipped = Buffer.from(archive)
        flipped[at] = (flipped[at] ?? 0) ^ (1 << bit)
        await expect(readManifest(opened(flipped)())).rejects.toMatchObject({ code: 'INVALID_ARCHIVE' })
      }),
      { numRuns: 400 },
    )
    // In an id, where one bit makes a control character of a letter.
    const inId = archive.indexOf('{"id":"m') + 7
    const fresh = await database()
    await refused(fresh, Buffer.from(archive.map((byte, at) => (at === inId ? byte ^ 0x60 : byte))))
    for (const at of [5, 200, archive.length >> 1, archive.length - 2, archive.length - 1]) {
      const flipped = Buffer.from(archive)
      flipped[at] = (flipped[at] ?? 0) ^ 1
      await refused(fresh, flipped)
    }
  })

  test('cut off anywhere, with something added, or with a line left out', async () => {
    await insertMessages(pool, numbered(20))
    const archive = await backup(pool)
    const fresh = await database()
    for (let end = 0; end < archive.length; end += Math.max(1, Math.floor(archive.length / 60))) {
      await expect(readManifest(opened(archive.slice(0, end))())).rejects.toMatchObject({
        code: 'INVALID_ARCHIVE',
      })
    }
    await refused(fresh, archive.slice(0, -1), /too early/)
    await refused(fresh, '', /no backup/)
    await refused(fresh, `${archive}\n`, /behind the end/)
    await refused(fresh, archive.replace(/^\{"id".*\n/m, ''), /manifest/)
    const [one, two] = archive.split('\n').filter((line) => line.startsWith('{"id":"m1'))
    await refused(fresh, archive.replace(`${one}\n${two}`, `${two}\n${one}`), /order/)
  })

  test('of another format, or another kind of file', async () => {
    const archive = await backup(pool)
    await refused(pool, archive.replace('"format":1', '"format":2'), /version 2.*reads version 1/)
    await refused(pool, '{"id":"a"}\n', /no backup/)
    await refused(pool, gzipSync('x'), /line 1/)
  })

  test('compressed and flipped: refused, or read as it was written', async () => {
    await insertMessages(pool, numbered(20))
    const text = await backup(pool)
    const archive = gzipSync(text)
    const folder = await mkdtemp(join(tmpdir(), 'dualstore-test-'))
    const file = join(folder, 'archive.gz')
    try {
      for (let at = 0; at < archive.length; at += 7) {
        const flipped = Buffer.from(archive)
        flipped[at] = (flipped[at] ?? 0) ^ 16
        await writeFile(file, flipped)
        const outcome = await readManifest(createReadStream(file).pipe(createGunzip())).catch(
          (error) => error.code,
        )
        if (outcome === 'INVALID_ARCHIVE') continue
        // The header of gzip holds a time that nobody reads.
        expect(gunzipSync(flipped).toString(), `byte ${at}`).toBe(text)
      }
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  test('that changes between the check and the restore', async () => {
    await insertMessages(pool, numbered(20))
    const [one, fresh] = [await backup(pool), await database()]
    await updateMessages(pool, ['m1'], 'other')
    const two = await backup(pool)
    const both = [one, two]
    const before = await readHead(fresh)
    const restoring = serviceOn(fresh).restore(localAccess, () => opened(both.shift() ?? '')(), {
      skipMirror: true,
    })
    await expect(restoring).rejects.toMatchObject({ code: 'INVALID_ARCHIVE' })
    expect((await contents(fresh)).documents).toEqual([])
    expect((await readHead(fresh)).epoch).toBe(before.epoch)
  })
})

describe('what is there', () => {
  test('is not touched without --replace', async () => {
    const archive = await backup(pool)
    await insertMessages(pool, ['mine'])
    await expect(restore(pool, archive, { skipMirror: true })).rejects.toMatchObject({ code: 'CONFLICT' })
    expect((await contents(pool)).documents).toHaveLength(1)
  })

  test('goes with replace, collections too; what is as it was is left alone', async () => {
    await insertMessages(pool, numbered(2100))
    const archive = await backup(pool)
    const before = await contents(pool)
    await updateMessages(pool, ['m5', 'm7'], 'changed')
    await deleteMessages(pool, numbered(10, 'm200'))
    await insertMessages(pool, ['0', 'm30x', 'z'])
    await insertItems(pool, [{ id: 't', text: '1' }])
    await pool.query(`INSERT INTO dualstore.collections (name, definition) VALUES ('extra', $1)`, [
      { ...messages, name: 'extra', mirror: { ...messages.mirror, collection: 'extra' } },
    ])
    await pool.query(`SELECT dualstore.create_partition('extra')`)
    await pool.query(`INSERT INTO dualstore.documents VALUES ('extra', 'a', 1, '{"id":"a"}', 1, 1)`)
    await pool.query(`INSERT INTO dualstore.idempotency VALUES ('agent_tasks', 'k', 'f', '{}')`)
    const old = await readHead(pool)
    const report = await restore(pool, archive, { replace: true, skipMirror: true })
    expect(report).toMatchObject({ deleted: 7, inserted: 12, unchanged: 2088 })
    expect((await contents(pool)).documents).toEqual(before.documents)
    expect((await contents(pool)).collections.map(({ name }) => name)).not.toContain('extra')
    expect((await pool.query('SELECT FROM dualstore.idempotency')).rowCount).toBe(0)
    const log = await readHead(pool)
    expect(log.epoch).not.toBe(old.epoch)
    expect(log.epoch).toBe(report.epoch)
    expect(log.position).toBe(report.position + 7 + 12)
    expect(report.position).toBeGreaterThan(old.position + 1e12)
  })

  test('is kept while a server runs', async () => {
    const archive = await backup(pool)
    const url = databases[0]?.url ?? ''
    const app = await testServer('embedded', { databaseUrl: url })
    try {
      await until(async () => (await readFollowers(pool)).some(({ led }) => led))
      await expect(restore(pool, archive, { replace: true, skipMirror: true })).rejects.toMatchObject({
        code: 'CONFLICT',
        message: expect.stringContaining('a server runs'),
      })
    } finally {
      await app.close()
    }
    await restore(pool, archive, { replace: true, skipMirror: true })
  })
})

describe.each(mirrorKinds.filter((kind) => kind === 'embedded' || mongo !== undefined))(
  '%s mirror',
  (kind) => {
    /** More than a page of a mirror's documents; fewer where a test server is slow. */
    const some = kind === 'embedded' ? 1200 : 150
    const follow = async (on: Pool, mirror: Mirror) => {
      const { follower } = await testFollower(on, mirror)
      follower.run()
      await caughtUp(on)
      await follower.stop()
    }

    test('equals the database after a restore over what there was', async () => {
      const mirror = await testMirror(kind, mongo?.uri)
      await insertMessages(pool, numbered(some + 300))
      await updateMessages(pool, numbered(20), 'second')
      const archive = await backup(pool)
      await follow(pool, mirror)
      await updateMessages(pool, numbered(40), 'third')
      await deleteMessages(pool, numbered(some + 300).slice(some))
      await insertMessages(pool, numbered(50, 'new'))
      await follow(pool, mirror)
      await insertMessages(pool, numbered(20, 'not yet mirrored'))
      await restore(pool, archive, { mirror, replace: true })
      await follow(pool, mirror)
      await expectEqual(pool, mirror)
      expect(await mirror.count(messages)).toBe(some + 300)
    })

    test('equals the database after the database was lost, though it had seen more, and twice', async () => {
      const mirror = await testMirror(kind, mongo?.uri)
      await insertMessages(pool, numbered(some))
      const archive = await backup(pool)
      await updateMessages(pool, numbered(90), 'after the backup')
      await deleteMessages(pool, ['m99'])
      await insertMessages(pool, numbered(50, 'after'))
      await follow(pool, mirror)
      for (const turn of [1, 2]) {
        const fresh = await database()
        const report = await restore(fresh, archive, { mirror })
        expect(report.mirror_only, `turn ${turn}`).toBe(turn === 1 ? 50 : 20)
        await follow(fresh, mirror)
        await expectEqual(fresh, mirror)
        expect(await mirror.count(messages)).toBe(some)
        // And is lost again.
        await updateMessages(fresh, numbered(30), `turn ${turn}`)
        await insertMessages(fresh, numbered(20, `turn${turn}-`))
        await follow(fresh, mirror)
      }
    })
  },
)

test('a mirror that was not looked at is lost, loudly', async () => {
  await restore(pool, await backup(pool), { skipMirror: true })
  expect(await readFollowers(pool)).toMatchObject([
    { id: 'mirror', state: 'lost', state_reason: expect.stringContaining('built anew') },
  ])
})

test('keys go along only when both sides ask for it; one that is there stays as it is', async () => {
  const fresh = await database()
  const add = (on: Pool, id: string, hash: string) =>
    on.query(
      `INSERT INTO dualstore.api_keys (id, name, hash, role, read_scopes, write_scopes, row_filter, created_by)
       VALUES ($1, 'a "name"', sha256($2), 'writer', '{x*,"y z"}', '{}', '{"a":{"$gt":1.50}}', 'local')`,
      [id, hash],
    )
  await add(pool, 'a', 'one')
  await add(pool, 'b', 'two')
  await add(fresh, 'b', 'three')
  await fresh.query(`UPDATE dualstore.api_keys SET revoked_at = now()`)
  const archive = await backup(pool, { withKeys: true })
  expect(await backup(pool)).not.toContain('{"key":')
  const keys = async (on: Pool) =>
    (await on.query('SELECT *, created_at::text AS made FROM dualstore.api_keys ORDER BY id')).rows
  const [[mine], [theirs]] = [await keys(pool), await keys(fresh)]
  expect(await restore(fresh, archive, { skipMirror: true })).toMatchObject({ keys: 0 })
  expect(await keys(fresh)).toEqual([theirs])
  expect(await restore(fresh, archive, { skipMirror: true, withKeys: true })).toMatchObject({ keys: 1 })
  expect(await keys(fresh)).toEqual([mine, theirs])
  const audit = await fresh.query(
    `SELECT actor, action, details FROM dualstore.audit ORDER BY seq DESC LIMIT 1`,
  )
  expect(audit.rows).toMatchObject([{ actor: 'local', action: 'database.restore', details: { keys: 1 } }])
})

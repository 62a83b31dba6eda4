import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createDatabase, testDatabase } from '../support/database.js'
import { ofType, openStream } from '../support/event-stream.js'
import { insertMessages, until } from '../support/follower.js'
import { startServer } from '../support/serve.js'
import { dualstore, environment, freshPath, launch, ndjson, PROGRAM } from './program.js'

const dataDir = freshPath('backup-data')
const folder = freshPath('backup-files')
const file = (name: string) => join(folder, name)
beforeAll(() => void mkdirSync(folder))
afterAll(() => {
  for (const path of [dataDir, folder]) rmSync(path, { recursive: true, force: true })
})

test('a backup beside a running server, a restore without it, and a stream client that is told of the new epoch', {
  timeout: 120_000,
}, async () => {
  const env = { DUALSTORE_DATA_DIR: dataDir }
  const run = (...words: string[]) => dualstore(words, { env })
  const put = (base: string, id: string, content: string) =>
    fetch(`${base}/api/v1/session_messages/${id}`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json', connection: 'close' },
      body: JSON.stringify({ session_id: 's', role: 'user', content }),
    })
  const server = await startServer(env)
  let last = ''
  try {
    expect((await put(server.url, 'a', 'kept')).status).toBe(201)
    const made = await run('backup', file('one.ndjson.gz'), '--json')
    expect(made).toMatchObject({ code: 0, stderr: expect.stringContaining('backed up 1 document to') })
    const report = JSON.parse(made.stdout)
    expect(report).toMatchObject({ documents: 1, position: 1, keys: null, format: 1 })
    const archive = readFileSync(file('one.ndjson.gz'))
    expect(archive.length).toBe(report.bytes)
    expect(ndjson(gunzipSync(archive).toString())[0]).toMatchObject({
      dualstore: 'backup',
      epoch: report.epoch,
    })
    // The file is there now.
    expect(await run('backup', file('one.ndjson.gz'))).toMatchObject({ code: 2, stdout: '' })
    expect((await run('backup', file('one.ndjson.gz'), '--yes')).code).toBe(0)

    const stream = await openStream(`${server.url}/api/v1/stream/session_messages`)
    await stream.until(ofType('ready'))
    await put(server.url, 'a', 'changed')
    await put(server.url, 'b', 'new')
    last = (await stream.until(({ data }) => data.data?.id === 'b')).id ?? ''
    stream.close()
    const refused = await run('restore', file('one.ndjson.gz'), '--replace', '--yes')
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('a server runs') })
  } finally {
    await server.stop()
  }
  expect(await run('restore', file('one.ndjson.gz'))).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('not empty'),
  })
  expect(await run('restore', file('one.ndjson.gz'), '--replace')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('--yes'),
  })
  const restored = await run('restore', file('one.ndjson.gz'), '--replace', '--yes', '--json')
  expect(restored.code, restored.stderr).toBe(0)
  const report = JSON.parse(restored.stdout)
  expect(report).toMatchObject({ documents: 1, deleted: 2, inserted: 1, unchanged: 0 })

  const again = await startServer(env)
  try {
    const stream = await openStream(`${again.url}/api/v1/stream/session_messages`, { 'last-event-id': last })
    const { data } = await stream.until(ofType('reset'))
    expect(data.data).toMatchObject({ reason: 'other_log', requested: last })
    expect(data.data.position).toMatch(new RegExp(`^${report.epoch}-`))
    await stream.until(ofType('ready'))
    await put(again.url, 'c', 'goes on')
    const { id } = await stream.until(ofType('insert'))
    expect(Number(id?.split('-')[1])).toBeGreaterThan(report.position)
    stream.close()
    const read = (headers: Record<string, string>) =>
      fetch(`${again.url}/api/v1/session_messages/a`, { headers: { connection: 'close', ...headers } })
    const mirrored = await read({ 'x-dualstore-read-from': 'mirror', 'x-dualstore-wait-for': id ?? '' })
    expect(await mirrored.json()).toMatchObject({ data: { content: 'kept' } })
  } finally {
    await again.stop()
  }
})

describe('an archive that is not whole', () => {
  test('is never found under the name that was asked for, whatever ends the backup', {
    timeout: 120_000,
  }, async () => {
    const { url, pool } = await testDatabase()
    const env = { DATABASE_URL: url, DUALSTORE_DATA_DIR: dataDir, DUAL_WRITE_ENABLED: 'false' }
    await dualstore(['db', 'migrate'], { env })
    await dualstore(['collections', 'list'], { env })
    await insertMessages(pool, ['a'])
    writeFileSync(file('kept.ndjson'), 'what was there\n')
    for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
      // Whoever holds the last collection's table lets the backup get no further.
      const holder = await pool.connect()
      await holder.query('BEGIN; LOCK TABLE dualstore.documents_session_messages IN ACCESS EXCLUSIVE MODE')
      const backup = launch(['backup', file('kept.ndjson'), '--yes'], { env })
      const parts = () => readdirSync(folder).filter((name) => name.endsWith('.part'))
      await until(() => parts().some((name) => readFileSync(file(name)).length > 100))
      backup.signal(signal)
      if (signal === 'SIGTERM') await until(() => parts().length === 0)
      await holder.query('ROLLBACK')
      holder.release()
      const { code } = await backup.ended
      expect(code).not.toBe(0)
      expect(readFileSync(file('kept.ndjson'), 'utf8')).toBe('what was there\n')
      for (const name of parts()) rmSync(file(name))
    }
  })

  test('is told by --check and refused by restore, with exit code 1; a file that is not there with 2', {
    timeout: 120_000,
  }, async () => {
    const { url } = await testDatabase()
    const env = { DATABASE_URL: url, DUALSTORE_DATA_DIR: dataDir }
    expect((await dualstore(['db', 'migrate'], { env })).code).toBe(0)
    await dualstore(['collections', 'list'], { env })
    expect((await dualstore(['backup', file('whole.ndjson')], { env })).code).toBe(0)
    const checked = await dualstore(['restore', file('whole.ndjson'), '--check', '--json'], { env })
    expect(checked.code, checked.stderr).toBe(0)
    expect(JSON.parse(checked.stdout)).toMatchObject({ documents: 0, format: 1 })
    writeFileSync(file('cut.ndjson'), readFileSync(file('whole.ndjson')).subarray(0, -20))
    for (const words of [['--check'], [], ['--replace', '--yes']]) {
      expect(await dualstore(['restore', file('cut.ndjson'), ...words], { env })).toMatchObject({
        code: 1,
        stdout: '',
        stderr: expect.stringMatching(/line \d+: .*nothing was restored/),
      })
    }
    expect(await dualstore(['restore', file('absent')], { env })).toMatchObject({ code: 2 })
    expect(await dualstore(['backup', join(folder, 'no', 'folder')], { env })).toMatchObject({ code: 2 })
    expect(existsSync(join(folder, 'no'))).toBe(false)
  })
})

// npm run test:backup makes it 200,000.
const documents = Number(process.env.DOCUMENTS ?? 20_000)
const MIB = 1024 * 1024
const TOLD = 'process.on("exit",()=>console.error("maxRSS",process.resourceUsage().maxRSS))'

test(`backup and restore of ${documents} documents take little memory`, { timeout: 600_000 }, async () => {
  const from = await testDatabase()
  const to = await createDatabase()
  try {
    const run = async (url: string, ...words: string[]) => {
      const env = { DATABASE_URL: url, DUALSTORE_DATA_DIR: dataDir }
      const measured = [`--import=data:text/javascript,${encodeURIComponent(TOLD)}`, PROGRAM]
      const { exitCode, stderr } = await execa('node', [...measured, ...words], {
        env: environment(env),
        extendEnv: false,
        reject: false,
      })
      expect(exitCode, stderr).toBe(0)
      return Number(/maxRSS (\d+)/.exec(stderr)?.[1]) * 1024
    }
    await run(from.url, 'collections', 'list')
    await from.pool.query('SET statement_timeout = 0')
    // 2 KB each that do not compress.
    await from.pool.query(
      `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
       SELECT 'session_messages', 'm' || n, jsonb_build_object('id', 'm' || n, 'content',
         (SELECT string_agg(md5(n::text || i), '') FROM generate_series(1, 62) i)), n, n
       FROM generate_series(1, $1::int) n`,
      [documents],
    )
    const archive = file('large.ndjson')
    expect(await run(from.url, 'backup', archive)).toBeLessThan(200 * MIB)
    expect(readFileSync(archive).length).toBeGreaterThan(documents * 2000)
    expect(await run(to.url, 'restore', archive)).toBeLessThan(200 * MIB)
    const count = `SELECT count(*) AS n, sum(hashtext(item::text)) AS sum FROM dualstore.documents`
    expect((await to.pool.query(count)).rows).toEqual((await from.pool.query(count)).rows)
  } finally {
    await to.close()
  }
})

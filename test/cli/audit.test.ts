import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { ObjectId } from 'mongodb'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../support/database.js'
import { serverOfFile } from '../support/file-mongo.js'
import { caughtUp, insertMessages, messages } from '../support/follower.js'
import { mongoRaws, type Raws } from '../support/plant.js'
import type { Program } from '../support/process.js'
import { startServer } from '../support/serve.js'
import { dualstore, freshPath, launch, ndjson, ndjsonFile } from './program.js'

const mongo = await serverOfFile()
const folder = freshPath('audit')
beforeAll(() => mkdirSync(folder))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

// Many command lines, each a process of its own.
describe.runIf(mongo !== undefined)('with a MongoDB and a server', { timeout: 120_000 }, () => {
  let database: TestDatabase
  let server: Program
  let raws: Raws
  let stores: Record<string, string>
  /** Enough for a minute at one a second. */
  const ids = [...Array.from({ length: 60 }, (_, index) => `a${10 + index}`), 'm1', 'm2', 'm4']
  beforeAll(async () => {
    database = await testDatabase()
    stores = {
      DATABASE_URL: database.url,
      MONGODB_URI: mongo?.uri ?? '',
      DUALSTORE_MIRROR_TIMEOUT_MS: '20000',
    }
    server = await startServer({ ...stores, DUALSTORE_DATA_DIR: freshPath('unused') })
    await insertMessages(database.pool, ids)
    await caughtUp(database.pool)
    raws = mongoRaws({ uri: mongo?.uri ?? '', database: 'database' }, messages)
  })
  afterAll(() => server?.stop())

  const ways = [
    { way: 'local', env: () => stores },
    { way: 'remote', env: () => ({ DUALSTORE_URL: server.url }) },
  ]
  describe.each(ways)('$way', ({ way, env }) => {
    const run = (words: string) => dualstore(words.split(' '), { env: env(), cwd: folder })

    test('verify finds nothing, then everything, and repair mends it', async () => {
      const clean = await run('verify')
      expect(clean).toMatchObject({
        code: 0,
        stdout: '',
        stderr: expect.stringContaining('both stores agree'),
      })

      const all = await raws.read()
      const foreign = [
        { _id: new ObjectId(), text: 'legacy', at: new Date(0), n: 1.5 },
        { _id: `mine ${way}` },
      ]
      await raws.put([
        { ...all.get('m1'), text: 'forged' },
        { ...all.get('m2'), _id: 'x', id: 'x' },
        ...foreign,
      ])
      await raws.remove(['m4'])
      const found = await run('verify --json --collection session_messages')
      expect(found.code).toBe(1)
      expect(found.stderr).toMatch(/1 missing, 1 extra, 1 different\n.*2 documents .* other programs'/)
      expect(found.stderr).toMatch(/not checked: agent_tasks, opencode_events/)
      const named = ndjson(found.stdout).filter(({ kind }) => kind !== 'foreign')
      expect(named).toMatchObject([
        { id: 'm1', kind: 'different', differences: [{ path: 'text', ours: '"hello"', theirs: '"forged"' }] },
        { id: 'm4', kind: 'missing' },
        { id: 'x', kind: 'extra' },
      ])

      const dry = await run('repair')
      expect(dry).toMatchObject({ code: 1, stderr: expect.stringContaining('nothing was written; --yes') })
      expect(dry.stdout).toContain('would_repair\tdifferent\tsession_messages/m1\ttext: "hello" | "forged"\n')
      expect((await raws.read()).get('m1')).toMatchObject({ text: 'forged' })

      const file = `${way}.ndjson`
      const repaired = await run(`repair --yes --json --delete-foreign ${file}`)
      expect(repaired).toMatchObject({ code: 0, stderr: expect.stringContaining('3 repaired') })
      expect(repaired.stderr).toMatch(/kept 2 foreign documents in .* and deleted 2 of them/)
      expect(
        ndjson(repaired.stdout)
          .filter(({ outcome }) => outcome === 'repaired')
          .map(({ id }) => id),
      ).toEqual(['m1', 'm4', 'x'])
      expect(ndjsonFile(join(folder, file))).toEqual(
        expect.arrayContaining([
          {
            collection: 'session_messages',
            document: {
              _id: { $oid: String(foreign[0]?._id) },
              text: 'legacy',
              at: { $date: { $numberLong: '0' } },
              n: { $numberDouble: '1.5' },
            },
          },
          { collection: 'session_messages', document: { _id: `mine ${way}` } },
        ]),
      )
      expect([...(await raws.read()).keys()].sort()).toEqual(ids)
      expect(await run('verify')).toMatchObject({ code: 0 })
      // What was kept once must not be lost by another run.
      expect(await run(`repair --yes --delete-foreign ${file}`)).toMatchObject({ code: 2, stdout: '' })
    })

    test('jobs are listed, shown and cancelled', async () => {
      const started = await run('verify --no-wait --rate 1')
      const id = started.stdout.trim()
      expect(JSON.parse((await run(`jobs show ${id} --json`)).stdout)).toMatchObject({ id, kind: 'verify' })
      expect((await run(`jobs cancel ${id}`)).code).toBe(0)
      expect((await run('jobs list')).stdout).toMatch(new RegExp(`${id}\tverify\t`))
      expect(await run('jobs show none')).toMatchObject({
        code: 1,
        stderr: 'error: there is no job "none"\n',
      })
    })

    test('parked documents are listed, shown, retried and skipped', async () => {
      for (const id of ['m1', 'm2']) {
        await database.pool.query(
          `INSERT INTO dualstore.parked (follower, collection, id, seq, reason)
           VALUES ('mirror', 'session_messages', $1, 1, 'too large')`,
          [id],
        )
      }
      expect((await run('parked list')).stdout).toMatch(/session_messages\tm1\t1\t.*\ttoo large\n/)
      expect((await run('parked show session_messages m1')).stdout).toMatch(
        /too large\nPostgreSQL: version 1\n/,
      )
      expect(await run('parked retry session_messages m1')).toMatchObject({ code: 0 })
      expect(await run('parked skip session_messages m2')).toMatchObject({ code: 0 })
      expect(JSON.parse((await run('parked list --json')).stdout)).toEqual([])
      expect(await run('parked retry session_messages m1')).toMatchObject({ code: 1, stdout: '' })
    })
  })

  test('Ctrl-C cancels the job and says so', async () => {
    const running = launch(['verify', '--rate', '1', '--url', server.url], { cwd: folder })
    const [, id] = await running.seen(/job (job_\w+)/)
    running.signal('SIGINT')
    expect(await running.ended).toMatchObject({ code: 130, output: expect.stringContaining('is cancelled') })
    const shown = await dualstore(['jobs', 'show', `${id}`, '--json', '--url', server.url])
    expect(JSON.parse(shown.stdout)).toMatchObject({ cancel_requested: true })
  })
})

test('without a server a job is run by the command itself', async () => {
  const env = { DUALSTORE_DATA_DIR: join(folder, 'data') }
  const { code, stderr } = await dualstore(['verify'], { env, cwd: folder })
  expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringContaining('both stores agree') })
}, 60_000)

test.each([
  ['a sample that is none', ['verify', '--sample', '2'], /must be a share above 0 and up to 1/],
  ['a rate that is none', ['repair', '--rate', '0'], /must be a number from 1 on/],
  ['deleting without --yes', ['repair', '--delete-foreign', 'f'], /--delete-foreign deletes documents/],
])('%s exits with 2 and opens nothing', async (_what, args, line) => {
  const nowhere = { DUALSTORE_DATA_DIR: join(folder, 'nowhere') }
  const { code, stdout, stderr } = await dualstore(args, { env: nowhere, cwd: folder })
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  expect(stderr).toMatch(line)
  expect(existsSync(nowhere.DUALSTORE_DATA_DIR)).toBe(false)
})

import { describe, expect, test } from 'vitest'
import { readHead } from '../../src/server/changes/read.js'
import { dualstore, launch, type Running } from '../cli/program.js'
import { type TestDatabase, testDatabase } from '../support/database.js'
import { until } from '../support/follower.js'
import { atEndOfFile } from '../support/leaks.js'
import { type Opencode, opencodeIsAvailable, startOpencode } from '../support/opencode.js'
import type { Program } from '../support/process.js'
import { startServer } from '../support/serve.js'
import { compare, type SeenEvents, watchFeed } from './support/opencode-oracle.js'

const PASSWORD = 'a password'

describe.runIf(await opencodeIsAvailable())('ingesting from a real OpenCode server', () => {
  const env = { DUAL_WRITE_ENABLED: 'false', OPENCODE_SERVER_PASSWORD: PASSWORD }
  let opencode: Opencode
  let seen: SeenEvents

  /** A session with messages, a command, a change, and events that OpenCode does not keep. */
  const work = async (title: string): Promise<{ session: string; messages: string[] }> => {
    const { id: session } = await opencode.call('POST', '/session', { title })
    const messages: string[] = []
    const say = async (...texts: string[]) => {
      const parts = texts.map((text) => ({ type: 'text', text }))
      const said = await opencode.call('POST', `/session/${session}/message`, { noReply: true, parts })
      messages.push(said.info.id)
      return said
    }
    await say(`hello from ${title}`, 'a second part')
    await say('what no store holds: \0 and \ud83d')
    const { info, parts } = await say('one', 'two', 'three')
    const path = `/session/${session}/message/${info.id}`
    await opencode.call('PATCH', `${path}/part/${parts[0].id}`, { ...parts[0], text: 'one, edited' })
    await opencode.call('DELETE', `${path}/part/${parts[1].id}`)
    const gone = await say('to be deleted')
    await opencode.call('DELETE', `/session/${session}/message/${gone.info.id}`)
    await opencode.call('POST', `/session/${session}/shell`, { agent: 'build', command: 'echo done' })
    await opencode.call('POST', '/tui/show-toast', { title, message: 'a toast', variant: 'info' })
    return { session, messages }
  }
  /** Starts the command in the background; ended after the file's last test, if not before. */
  const begin = (args: readonly string[]): Running => {
    const ingest = launch(args, { env })
    atEndOfFile(async () => {
      ingest.signal('SIGKILL')
      await ingest.ended
    })
    return ingest
  }
  /** Ended after the file's last test, if not before. */
  const serve = async (settings: Readonly<Record<string, string>>, flags: readonly string[] = []) => {
    const server = await startServer(settings, { flags, timeoutMs: 60_000 })
    atEndOfFile(async () => void (await server.kill9()))
    return server
  }
  const equal = (database: TestDatabase) => async () =>
    (await compare(opencode, database.pool, seen)).length === 0
  const expectEqual = async (database: TestDatabase) => {
    await until(equal(database), 45_000).catch(() => {})
    expect(await compare(opencode, database.pool, seen)).toEqual([])
  }

  test('what is stored equals what OpenCode has, however both are killed, and nothing is written twice', {
    timeout: 240_000,
  }, async () => {
    opencode = await startOpencode({ OPENCODE_SERVER_PASSWORD: PASSWORD })
    const database = await testDatabase()
    const args = ['ingest', 'opencode', '--from', opencode.url, '--database-url', database.url]
    seen = await watchFeed(opencode, PASSWORD)
    await work('before anybody listens')

    let ingest: Running = begin(args)
    await ingest.seen(/^following/m)
    seen.mustBeStored()
    const { session } = await work('while it follows')
    await expectEqual(database)

    // OpenCode is killed in the middle of a command, and works on before the ingester is back.
    const command = 'for i in 1 2 3 4 5 6 7 8 9; do echo step $i; sleep 0.2; done'
    const cut = opencode
      .call('POST', `/session/${session}/shell`, { agent: 'build', command })
      .catch(() => {})
    await until(() => seen.some((event) => JSON.stringify(event).includes('step 2')))
    await opencode.kill9()
    await cut
    await opencode.restart()
    await seen.again()
    await work('right after its restart')
    await expectEqual(database)

    // The ingester is killed in the middle of a burst, and misses what comes then.
    const before = (await readHead(database.pool)).position
    const burst = work('a burst')
    await until(async () => (await readHead(database.pool)).position > before)
    process.kill(ingest.pid, 'SIGKILL')
    await ingest.ended
    const { session: other, messages } = await burst
    await opencode.call('DELETE', `/session/${other}/message/${messages[0]}`)
    await work('while it is away')
    ingest = begin(args)
    await expectEqual(database)

    // A deleted session takes its history with it; what is stored of it stays.
    await ingest.seen(/^following/m)
    await opencode.call('DELETE', `/session/${session}`)
    await until(() => seen.some(({ type }) => type === 'session.deleted'))
    await expectEqual(database)

    ingest.signal('SIGTERM')
    expect(await ingest.ended).toMatchObject({ code: 0 })

    const head = await readHead(database.pool)
    const again = await dualstore([...args, '--once', '--json'], { env })
    expect(again.code, again.stderr).toBe(0)
    expect(JSON.parse(again.stdout)).toMatchObject({
      state: 'stopped',
      events: { stored: 0, refused: 0 },
      messages: { written: 0, refused: 0 },
      unknown_types: [],
    })
    expect(await readHead(database.pool)).toEqual(head)
    await expectEqual(database)
  })

  test('of several servers with the setting one ingests, and another goes on when it is killed', {
    timeout: 180_000,
  }, async () => {
    seen.nothingMustBeStored()
    const database = await testDatabase()
    const start = () =>
      serve({ ...env, DATABASE_URL: database.url, DUALSTORE_INGEST_OPENCODE_URL: opencode.url })
    const ingests = ({ logs }: Program) => logs().some(({ msg }) => msg === 'this instance ingests')
    const first = await start()
    await until(() => ingests(first), 60_000)
    const second = await start()
    await work('for several servers')
    await expectEqual(database)
    expect(ingests(second)).toBe(false)

    await first.kill9()
    await work('while nobody leads')
    await expectEqual(database)
    expect(ingests(second)).toBe(true)
    expect(await second.stop()).toEqual({ code: 0, signal: undefined })
  })

  test('over HTTP, nothing is lost when the server it writes to is killed', {
    timeout: 180_000,
  }, async () => {
    const database = await testDatabase()
    const settings = { ...env, DATABASE_URL: database.url }
    let server = await serve(settings)
    const { url } = server
    const args = ['ingest', 'opencode', '--from', opencode.url, '--url', url]
    const ingest = begin(args)
    await ingest.seen(/^following/m)
    seen.mustBeStored()
    await expectEqual(database)

    await server.kill9()
    await work('while dualstore is away')
    await ingest.seen(/the store is away; will keep trying/)
    server = await serve(settings, ['--port', new URL(url).port])
    await ingest.seen(/the store takes writes again/)
    await expectEqual(database)
    ingest.signal('SIGINT')
    expect(await ingest.ended).toMatchObject({ code: 0 })

    const head = await readHead(database.pool)
    expect((await dualstore([...args, '--once'], { env })).code).toBe(0)
    expect(await readHead(database.pool)).toEqual(head)
    await server.stop()
  })

  test('with a directory only what happens there is ingested', { timeout: 120_000 }, async () => {
    const database = await testDatabase()
    const { session: here } = await work('here')
    const elsewhere = encodeURIComponent(`${opencode.workspace}/..`)
    const { id } = await opencode.call('POST', `/session?directory=${elsewhere}`, { title: 'elsewhere' })
    const args = ['ingest', 'opencode', '--from', opencode.url, '--database-url', database.url, '--once']
    expect((await dualstore([...args, '--directory', opencode.workspace], { env })).code).toBe(0)
    const sessions = async () => {
      const { rows } = await database.pool.query<{ id: string }>(
        `SELECT DISTINCT item ->> 'session_id' AS id FROM dualstore.documents`,
      )
      return rows.map((row) => row.id)
    }
    expect(await sessions()).toContain(here)
    expect(await sessions()).not.toContain(id)
    expect((await dualstore(args, { env })).code).toBe(0)
    expect(await sessions()).toContain(id)
  })

  test('a wrong address or password is told at once, with exit code 2 or 1', {
    timeout: 120_000,
  }, async () => {
    const server = await serve({ ...env, DATABASE_URL: (await testDatabase()).url })
    const run = (args: string[], given: Record<string, string> = env) =>
      dualstore(['ingest', 'opencode', ...args, '--once'], { env: given })
    const swapped = await run(['--from', server.url, '--url', opencode.url])
    expect(swapped).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^error: --from names a dualstore/),
    })
    const open = await startOpencode()
    const wrongTarget = await run(['--from', opencode.url, '--url', open.url])
    expect(wrongTarget).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^error: --url names an OpenCode server/),
    })
    const refused = await run(['--from', opencode.url, '--url', server.url], {})
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(/OPENCODE_SERVER_PASSWORD/) })
    const away = await run(['--from', 'http://127.0.0.1:9', '--url', server.url])
    expect(away).toMatchObject({ code: 1, stderr: expect.stringMatching(/is away/) })
    await server.stop()
  })
})

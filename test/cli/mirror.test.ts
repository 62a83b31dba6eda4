import { rmSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { until } from '../support/follower.js'
import { startServer } from '../support/serve.js'
import { dualstore, freshPath, launch, ndjson } from './program.js'

const KEY = 'a-key-for-tests'
const dataDir = freshPath('mirror')
let server: Awaited<ReturnType<typeof startServer>>

beforeAll(async () => {
  server = await startServer({ DUALSTORE_DATA_DIR: dataDir, AUTH_BEARER_TOKEN: KEY }, { until: 'listening' })
})
afterAll(async () => {
  await server?.stop()
  rmSync(dataDir, { recursive: true, force: true })
})

const remote = () => ({ DUALSTORE_URL: server.url, DUALSTORE_KEY: KEY })
// The server runs all the while: locally, the command line is a guest of its PostgreSQL.
const ways = [
  { way: 'local', by: 'local', env: () => ({ DUALSTORE_DATA_DIR: dataDir }) },
  { way: 'remote', by: 'legacy', env: remote },
]

// A command takes seconds on a busy machine.
describe.each(ways)('$way', { timeout: 120_000 }, ({ by, env }) => {
  const run = (...words: string[]) => dualstore(['mirror', ...words], { env: env() })
  const json = async (...words: string[]) => {
    const ran = await run(...words, '--json')
    expect(ran.code, ran.stderr).toBe(0)
    return JSON.parse(ran.stdout)
  }
  // Until somebody leads it the exit code is 1, also for a moment after it was resumed.
  const mirror = async () => JSON.parse((await run('status', '--json')).stdout).mirrors[0]

  test('status tells the same as the server, for programs and for people', async () => {
    // Who leads tells a moment later what it writes into.
    await until(async () => {
      const { state, kind } = await mirror()
      return state === 'running' && kind !== null
    })
    expect((await json('status')).mirrors[0]).toMatchObject({
      name: 'mirror',
      kind: 'embedded',
      leader: { term: expect.any(Number) },
    })
    const { code, stdout } = await run('status')
    expect(code).toBe(0)
    expect(stdout).toMatch(
      /^MIRROR\tSTATE\tPOSITION\tBEHIND\t.*\nmirror \(embedded\)\trunning\t[0-9a-f]{8}-\d+\tnothing\t/,
    )
  })

  test('pause, set-position and resume are obeyed by the server, and tell what they do', async () => {
    const paused = await json('pause', '--reason', 'for a test')
    expect(paused).toMatchObject({ state: 'paused', reason: 'for a test', by })
    const task = { session_id: 's', agent_id: 'a', task_type: 't', status: 'pending' }
    const input = `${JSON.stringify(task)}\n`.repeat(3)
    await dualstore(['collections', 'import', 'agent_tasks'], { env: env(), input })
    const { position, lag } = await mirror()
    expect(lag.changes).toBe(3)
    const to = position.replace(/\d+$/, (seq: string) => String(Number(seq) + 2))

    const unforced = await run('set-position', to)
    expect(unforced).toMatchObject({ code: 1, stderr: expect.stringContaining('2 changes would be skipped') })
    const unconfirmed = await run('set-position', to, '--force')
    expect(unconfirmed).toMatchObject({ code: 2, stderr: expect.stringContaining('--yes is missing') })
    expect((await mirror()).position).toBe(position)
    expect(await json('set-position', to, '--force', '--yes')).toMatchObject({ to, skipped: 2, replayed: 0 })
    expect(await json('set-position', position, '--yes')).toMatchObject({
      to: position,
      skipped: 0,
      replayed: 2,
    })

    const resumed = await run('resume')
    expect(resumed).toMatchObject({ code: 0, stderr: expect.stringContaining('3 changes behind') })
    await until(async () => (await mirror()).lag.changes === 0)
    expect(await run('set-position', position, '--yes')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('not paused'),
    })
  })

  test('rebuild is done by the server', async () => {
    const { id } = (await json('rebuild')).rebuild
    await until(async () => (await mirror()).rebuild.phase === 'done')
    expect((await mirror()).rebuild).toMatchObject({ id, requested_by: by, removed: 0 })
    const { stdout } = await run('status')
    expect(stdout).toContain('mirror: rebuilt at ')
  })

  test('a watch prints one line of JSON a second, and ends with 130', async () => {
    const child = launch(['mirror', 'status', '--watch', '--json'], { env: env() })
    await child.seen(/"time".*\n(.*\n)*.*"time".*\n/)
    child.signal('SIGINT')
    const { code, output } = await child.ended
    expect(code).toBe(130)
    const lines = ndjson(output.replace(/^(?!\{).*$/gm, ''))
    expect(lines.length).toBeGreaterThanOrEqual(2)
    expect(lines[0]).toMatchObject({ time: expect.any(String), mirrors: [{ name: 'mirror' }] })
  })

  test('wrong usage is 2, a mirror that is not there 1', async () => {
    expect((await run('set-position', 'nonsense')).code).toBe(2)
    expect(await run('pause', 'other')).toMatchObject({ code: 1, stderr: expect.stringContaining('"other"') })
  })
})

test('on a terminal a watch draws over itself, and a position is set when the name is typed', async () => {
  const env = { ...remote(), NO_COLOR: '1' }
  const watching = launch(['mirror', 'status', '--watch'], { terminal: true, env })
  // The second picture begins with the way up to the first.
  await watching.seen(/running[\s\S]*\[\d+A\r.\[0J[\s\S]*running/)
  const paused = await dualstore(['mirror', 'pause', '--json'], { env })
  await watching.seen(/paused/)
  watching.type('\u0003')
  expect((await watching.ended).code).toBe(130)

  const { position } = JSON.parse(paused.stdout)
  const start = position.replace(/\d+$/, '0')
  const mistyped = launch(['mirror', 'set-position', start], { terminal: true, env })
  await mistyped.seen(/applied again\. Type mirror to go on:/)
  mistyped.type('mirrow\r')
  expect(await mistyped.ended).toMatchObject({
    code: 1,
    output: expect.stringContaining('nothing was changed'),
  })
  const typed = launch(['mirror', 'set-position', start], { terminal: true, env })
  await typed.seen(/Type mirror to go on:/)
  typed.type('mirror\r')
  expect(await typed.ended).toMatchObject({ code: 0, output: expect.stringContaining('when it is resumed') })
  expect((await dualstore(['mirror', 'resume'], { env })).code).toBe(0)
})

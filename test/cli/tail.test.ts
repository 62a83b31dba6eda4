import { mkdirSync, rmSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createClient } from '../../src/client/index.js'
import { startServer } from '../support/serve.js'
import { dualstore, freshPath, launch, ndjson, type Running } from './program.js'

const KEY = 'a-key-for-tests'
const dataDir = freshPath('tail')
const folder = freshPath('tail-cwd')
const env = { DUALSTORE_DATA_DIR: dataDir, AUTH_BEARER_TOKEN: KEY }
let server: Awaited<ReturnType<typeof startServer>>
beforeAll(async () => {
  mkdirSync(folder)
  server = await startServer(env, { until: 'listening' })
})
afterAll(async () => {
  await server?.stop()
  for (const path of [dataDir, folder]) rmSync(path, { recursive: true, force: true })
})

const tasks = () =>
  createClient({
    url: server.url,
    key: KEY,
    // A fresh connection each time: a pooled one would stay open behind the test.
    fetch: (input, init) => fetch(input, { ...init, headers: { ...init?.headers, connection: 'close' } }),
  }).collection('agent_tasks')
const task = (session_id: string, more: object = {}) =>
  tasks().create({ session_id, agent_id: 'a', task_type: 't', status: 'pending', ...more })

/** The lines of JSON that were printed. */
const changesIn = (output: string) =>
  ndjson(
    output
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .join('\n'),
  )
const sessionsIn = (output: string) =>
  changesIn(output).map(({ type, data }) => `${type} ${(data as { session_id: string }).session_id}`)

async function interrupted(child: Running): Promise<{ output: string; position: string }> {
  child.signal('SIGINT')
  const { code, output } = await child.ended
  expect(code, output).toBe(130)
  const [, position = ''] = /interrupted; go on with --since (\S+)/.exec(output) ?? []
  return { output, position }
}

const ways = [
  { way: 'local', where: () => ({ DUALSTORE_DATA_DIR: dataDir }) },
  { way: 'remote', where: () => ({ DUALSTORE_URL: server.url, DUALSTORE_KEY: KEY }) },
]

describe.each(ways)('$way', ({ where }) => {
  const start = (words: string[], terminal = false) =>
    launch(['tail', ...words], { env: where(), cwd: folder, terminal })
  const run = (...words: string[]) => dualstore(['tail', ...words], { env: where(), cwd: folder })

  test('prints changes as lines of JSON, and goes on from where it was interrupted', async () => {
    const child = start(['agent_tasks', '--json'])
    await child.seen(/following agent_tasks of .* from \S+ on/)
    const { item, position: written } = await task('first')
    await tasks().delete(item.id)
    await child.seen(/"delete"/)
    const { output, position } = await interrupted(child)
    const changes = changesIn(output)
    expect(changes).toMatchObject([{ type: 'insert' }, { type: 'delete' }])
    expect(changes[0]).toEqual({
      type: 'insert',
      collection: 'agent_tasks',
      data: item,
      timestamp: expect.stringMatching(/Z$/),
      version: 1,
      position: written,
    })
    await task('second')
    await task('third')
    const again = start(['--since', position, '--json'])
    await again.seen(/third/)
    expect(sessionsIn((await interrupted(again)).output)).toEqual(['insert second', 'insert third'])
  })

  test('shows only what matches, and what leaves the filter as deleted', async () => {
    const filtered = start([
      'agent_tasks',
      '--json',
      '--session-id',
      'mine',
      '--filter',
      '{"status": "pending"}',
    ])
    await filtered.seen(/following/)
    await task('other')
    const { item } = await task('mine')
    await tasks().patch(item.id, { status: 'running' })
    await filtered.seen(/"delete"/)
    expect(sessionsIn((await interrupted(filtered)).output)).toEqual(['insert mine', 'delete mine'])
  })

  test('prints tab-separated text off a terminal, without control characters of the item', async () => {
    const child = start(['agent_tasks'])
    await child.seen(/following/)
    const { item } = await task('x', { error_message: '\u001b[31mred\u0007' })
    await child.seen(/error_message/)
    const { output } = await interrupted(child)
    expect(output).toContain(`Z\tinsert\tagent_tasks\t${item.id}\tv1\t{"`)
    expect(output).toContain('\\u001b[31mred')
    expect(output).not.toContain('\u001b')
  })

  test('a worthless position is told, and what comes then is printed', async () => {
    const child = start(['agent_tasks', '--since', '00000000-1', '--json'])
    await child.seen(
      /reset: cannot go on from 00000000-1 \(it is of another log\); changes may be missing before \S+/,
    )
    await child.seen(/following/)
    await task('after')
    await child.seen(/after/)
    expect(sessionsIn((await interrupted(child)).output)).toEqual(['insert after'])
  })

  test('a reader that goes away ends it quietly', async () => {
    const child = launch(['tail'], { env: where(), cwd: folder, stdout: 'closed' })
    let over = false
    const ended = child.ended.finally(() => {
      over = true
    })
    // The pipe is found closed when something is to be printed.
    while (!over) await task('unread')
    const { code, output } = await ended
    expect(code, output).toBe(0)
    expect(output).not.toMatch(/error|EPIPE|interrupted/)
  })

  test('what is wrong is told with the flag', async () => {
    expect(await run('agent_tasks', '--filter', '{bad')).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/error: --filter must be/),
    })
    expect(await run('--filter', '{"a": {"$near": 1}}')).toMatchObject({ code: 2, stdout: '' })
    expect(await run('--since', 'yesterday')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('It must be a position such as 5f0c2a91-4711.'),
    })
    expect(await run('nowhere')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/no collection "nowhere"/),
    })
  })
})

test('on a terminal lines are cut to its width, and coloured', async () => {
  const child = launch(['tail', 'agent_tasks', '--url', server.url, '--key', KEY], {
    cwd: folder,
    terminal: true,
  })
  await child.seen(/following/)
  await task('x', { error_message: 'long '.repeat(100) })
  const [line = ''] = await child.seen(/.*insert.*agent_tasks.*…/)
  expect(line).toContain('\u001b[32minsert\u001b[39m')
  child.type('\u0003')
  expect((await child.ended).code).toBe(130)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the colours
  expect(line.replace(/\u001b\[\d+m/g, '').length).toBeLessThanOrEqual(120)
})

test('a wrong key is refused', async () => {
  expect(await dualstore(['tail', '--url', server.url, '--key', 'wrong'], { cwd: folder })).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^error: the server refuses the key/),
  })
})

test('a server that is restarted is followed on, without gap or repeat', async () => {
  const child = launch(['tail', 'agent_tasks', '--json', '--url', server.url, '--key', KEY], { cwd: folder })
  await child.seen(/following/)
  await task('before')
  await child.seen(/before/)
  const { port } = new URL(server.url)
  await server.stop()
  await child.seen(/not connected, trying again/)
  server = await startServer(env, { until: 'listening', flags: ['--port', port] })
  await task('behind')
  await child.seen(/behind/)
  expect(sessionsIn((await interrupted(child)).output)).toEqual(['insert before', 'insert behind'])
})

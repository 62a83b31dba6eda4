import { rmSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { isKeyId, parseKey } from '../../src/server/services/key-format.js'
import { until } from '../support/follower.js'
import { startServer } from '../support/serve.js'
import { dualstore, freshPath, launch, type RunOptions } from './program.js'

// The embedded default, from nothing: the first key is made before any server has run, and others while one runs.
const dataDir = freshPath('keys')
const keyFile = `${freshPath('key')}.txt`
const LOCAL = { DUALSTORE_DATA_DIR: dataDir, NO_COLOR: '1' }
let server: Awaited<ReturnType<typeof startServer>>
let first: string

beforeAll(async () => {
  const made = await dualstore(['keys', 'create', '--role', 'admin', '--name', 'first', '--quiet'], {
    env: LOCAL,
  })
  expect(made.code, made.stderr).toBe(0)
  first = made.stdout.trimEnd()
  writeFileSync(keyFile, `${first}\n`)
  server = await startServer({ DUALSTORE_DATA_DIR: dataDir, AUTH_ENABLED: 'true' }, { until: 'listening' })
})
afterAll(async () => {
  await server?.stop()
  for (const path of [dataDir, keyFile]) rmSync(path, { recursive: true, force: true })
})

const REMOTE = () => ({ DUALSTORE_URL: server.url, DUALSTORE_KEY: first, NO_COLOR: '1' })
const run = (words: readonly string[], options: RunOptions = {}) =>
  dualstore(words, { env: REMOTE(), ...options })
const json = async (words: readonly string[], options?: RunOptions) => {
  const { code, stdout, stderr } = await run([...words, '--json'], options)
  expect(code, stderr).toBe(0)
  return JSON.parse(stdout)
}
const status = async (key: string) =>
  (
    await fetch(`${server.url}/api/v1/agent_tasks`, {
      headers: { authorization: `Bearer ${key}`, connection: 'close' },
    })
  ).status

test('--quiet prints the first key of an empty database alone, and it works', async () => {
  expect(parseKey(first)).toBeDefined()
  expect(await status(first)).toBe(200)
})

/** The same commands on the stores and on a server: one makes, the other sees. */
describe.each([
  ['the local stores', () => LOCAL],
  ['a running server', REMOTE],
])('on %s', (_where, environment) => {
  const options = () => ({ env: environment() })

  test('a key is made with what the flags say, listed, shown, rotated and revoked', {
    timeout: 120_000,
  }, async () => {
    const made = await json(
      [
        ...['keys', 'create', '--role', 'writer', '--name', 'agent', '--read', '*'],
        ...['--write', 'agent_*, notes', '--rows', '{"session_id": "s1"}', '--expires-in', '90d'],
      ],
      options(),
    )
    expect(made).toMatchObject({
      name: 'agent',
      role: 'writer',
      scopes: { read: ['*'], write: ['agent_*', 'notes'] },
      rows: { session_id: 's1' },
      status: 'active',
    })
    const lasts = Date.parse(made.expires_at) - Date.now()
    expect(Math.abs(lasts - 90 * 86_400_000)).toBeLessThan(120_000)
    expect(await status(made.key)).toBe(200)

    const listed = await json(['keys', 'list'], options())
    expect(listed.map(({ id }: { id: string }) => id)).toContain(made.id)
    expect(JSON.stringify(listed)).not.toContain(parseKey(made.key)?.secret)
    const { key: _key, ...shown } = made
    expect(await json(['keys', 'show', made.id], options())).toEqual({
      ...shown,
      last_used_at: expect.toSatisfy((at) => at === null || typeof at === 'string'),
    })

    const rotated = await run(['keys', 'rotate', made.id, '--overlap', '0', '--quiet'], options())
    const key = rotated.stdout.trimEnd()
    expect(await status(key)).toBe(200)
    await until(async () => (await status(made.key)) === 401)

    const revoked = await run(['keys', 'revoke', made.id], options())
    expect(revoked).toMatchObject({ code: 0, stdout: '' })
    expect(revoked.stderr).toContain(`revoked ${made.id} (agent)`)
    const at = performance.now()
    await until(async () => (await status(key)) === 401)
    expect(performance.now() - at).toBeLessThan(1000)

    const entries = await json(['audit', '--key', made.id, '--since', '1h'], options())
    expect(entries.map(({ action }: { action: string }) => action)).toEqual([
      'key.create',
      'key.rotate',
      'key.revoke',
    ])
    const pruned = await json(['keys', 'prune', '--older-than', '0'], options())
    expect(pruned.removed).toContain(made.id)
  })

  test('a key that is not there is told, with exit code 1', async () => {
    const { code, stderr } = await run(['keys', 'show', 'abcdefghijkl'], options())
    expect(code).toBe(1)
    expect(stderr).toContain('there is no key "abcdefghijkl"')
  })
})

test.each([
  ['--name', ['create', '--role', 'reader']],
  ['--role', ['create', '--name', 'a']],
  ['--role', ['create', '--name', 'a', '--role', 'owner']],
  ['--read', ['create', '--name', 'a', '--role', 'reader', '--read', 'Not A Name']],
  ['--write', ['create', '--name', 'a', '--role', 'reader', '--write', 'notes']],
  ['--rows', ['create', '--name', 'a', '--role', 'reader', '--rows', 'nonsense']],
  ['--rows', ['create', '--name', 'a', '--role', 'reader', '--rows', '{"$where": "1"}']],
  ['--expires-in', ['create', '--name', 'a', '--role', 'reader', '--expires-in', 'soon']],
  ['--expires-at', ['create', '--name', 'a', '--role', 'reader', '--expires-at', '2001-01-01']],
  ['--overlap', ['rotate', 'abcdefghijkl', '--overlap', '5']],
])('wrong usage is told by %s: keys %j', async (flag, words) => {
  const { code, stdout, stderr } = await run(['keys', ...words])
  expect({ code, stdout }, stderr).toEqual({ code: 2, stdout: '' })
  expect(stderr).toContain(flag)
})

test('create asks for what is missing on a terminal', async () => {
  const child = launch(['keys', 'create'], { terminal: true, env: REMOTE() })
  await child.seen(/What is the key for\?/)
  child.type('asked for\r')
  await child.seen(/What may it do\?/)
  // One down from reader.
  child.type('\u001b[B\r')
  await child.seen(/It ends after/)
  child.type('12h\r')
  const { code, output } = await child.ended
  expect(code, output).toBe(0)
  const [, key = ''] = /(dsk_\w+)/.exec(output) ?? []
  const id = parseKey(key)?.id ?? ''
  expect(isKeyId(id), output).toBe(true)
  const shown = await json(['keys', 'show', id])
  expect(shown).toMatchObject({ name: 'asked for', role: 'writer', expires_at: expect.any(String) })
})

describe('the key to call a server with', () => {
  const without = () => ({ DUALSTORE_URL: server.url, NO_COLOR: '1' })

  test('may come from a file, from stdin, or be asked for: none of it shows in a list of processes', async () => {
    const env = without()
    expect((await run(['keys', 'list', '--key-file', keyFile], { env })).code).toBe(0)
    expect((await run(['keys', 'list', '--key-file', '-'], { env, input: `${first}\n` })).code).toBe(0)
    const child = launch(['keys', 'list', '--key'], { terminal: true, env })
    await child.seen(/Key:/)
    child.type(`${first}\r`)
    const { code, output } = await child.ended
    expect(code, output).toBe(0)
    expect(output).not.toContain(parseKey(first)?.secret)
  })

  test('--key alone is wrong usage where nobody can be asked', async () => {
    const { code, stderr } = await run(['keys', 'list', '--key'], { env: without() })
    expect(code).toBe(2)
    expect(stderr).toContain('--key')
  })

  test('that is missing or of too little is told, with exit code 1', async () => {
    const missing = await run(['keys', 'list'], { env: without() })
    expect(missing.code).toBe(1)
    expect(missing.stderr).toContain('--key-file')
    const reader = await json(['keys', 'create', '--role', 'reader', '--name', 'low'])
    const refused = await run(['keys', 'list'], { env: { ...without(), DUALSTORE_KEY: reader.key } })
    expect(refused.code).toBe(1)
    expect(refused.stderr).toContain('needs the role "admin"')
  })

  test('is not what --key of the audit means', async () => {
    const { code, stderr } = await run(['audit', '--key', first])
    expect(code).toBe(2)
    expect(stderr).toContain('DUALSTORE_KEY')
    expect(stderr).not.toContain(parseKey(first)?.secret)
  })
})

test('no secret stands in the log of the server', () => {
  const log = server.stdout() + server.stderr()
  expect(log).toContain('listens on')
  expect(log).not.toContain(parseKey(first)?.secret)
})

import { once } from 'node:events'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { dualstore, freshPath, launch } from './program.js'

// A folder without a configuration file; nothing here may get as far as opening a store in it.
const folder = freshPath('usage')
beforeAll(() => mkdirSync(folder))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const inFolder = (args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
  dualstore(args, { cwd: folder, env })

test.each([
  ['an unknown command', ['nonsense'], /unknown command 'nonsense'/],
  ['an unknown flag', ['serve', '--prot', '1'], /unknown option '--prot'\n\(Did you mean --port\?\)/],
  ['a missing argument', ['collections', 'show'], /missing required argument 'name'/],
  [
    'a setting out of range',
    ['serve', '--port', '99999'],
    /^error: --port is "99999", but must be a whole number from 0 to 65535\n$/,
  ],
  [
    'a choice that is none',
    ['collections', 'import', 'x', '--on-conflict', 'merge'],
    /Allowed choices are error, skip, replace/,
  ],
  [
    'both a key and a key file',
    ['collections', 'list', '--key', 'a', '--key-file', 'b'],
    /cannot be used with/,
  ],
  [
    'a key without a server',
    ['collections', 'list', '--key', 'a'],
    /^error: --key is for a running server; give --url too\n$/,
  ],
  [
    'a server and local stores at once',
    ['collections', 'list', '--url', 'http://h', '--data-dir', 'd'],
    /^error: --url names/,
  ],
  ['a url that is none', ['health', '--url', 'localhost:3000'], /^error: --url must be a URL such as/],
  ['create without a name', ['collections', 'create'], /^error: <name> is missing/],
  ['create without a schema', ['collections', 'create', 'notes'], /^error: --schema is missing/],
  ['delete without --yes', ['collections', 'delete', 'notes'], /^error: --yes is missing/],
  [
    'update with nothing to change',
    ['collections', 'update', 'notes'],
    /^error: update was given nothing to change/,
  ],
  [
    'an import of a file that is not there',
    ['collections', 'import', 'notes', 'nothing.ndjson'],
    /^error: nothing.ndjson cannot be read/,
  ],
  [
    'a schema that is not there',
    ['collections', 'create', 'notes', '--schema', 'no.json'],
    /^error: --schema cannot be read from no.json/,
  ],
])('%s exits with 2 and one clear line', async (_what, args, line) => {
  const { code, stdout, stderr } = await inFolder(args)
  expect(stderr).toMatch(line)
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  expect(stderr).not.toMatch(/\n\s+at /)
})

test('a url with a password is refused without repeating it', async () => {
  const { code, stderr } = await inFolder(['health', '--url', 'http://user:hunter2@host'])
  expect(code).toBe(2)
  expect(stderr).not.toContain('hunter2')
})

test('a definition with a member that does not exist is refused before anything is opened', async () => {
  writeFileSync(join(folder, 'definition.yaml'), 'name: notes\nschema: {type: object}\nindexs: []\n')
  const { code, stderr } = await inFolder(['collections', 'create', '--from', 'definition.yaml'])
  expect(code).toBe(2)
  expect(stderr).toMatch(/^error: .*additional properties/i)
})

test('a server that cannot be reached is a failure, and its health is not ready', async () => {
  const url = await unusedUrl()
  const list = await inFolder(['collections', 'list', '--url', url])
  expect(list).toEqual({
    code: 1,
    stdout: '',
    stderr: `error: ${url} cannot be reached or broke off: ECONNREFUSED\n`,
  })
  const health = await inFolder(['health', '--json', '--url', url])
  expect(health.code).toBe(1)
  expect(JSON.parse(health.stdout)).toMatchObject({
    ready: false,
    reason: expect.stringContaining('ECONNREFUSED'),
  })
})

test('LOG_LEVEL=debug adds the stack', async () => {
  const { stderr } = await inFolder(['collections', 'create'], { LOG_LEVEL: 'debug' })
  expect(stderr).toMatch(/\n\s+at /)
})

test('config prints every setting with its origin and masks secrets', async () => {
  writeFileSync(join(folder, 'custom.yaml'), 'agentName: goose\n')
  const { code, stdout } = await inFolder(['config', '--json', '--config', 'custom.yaml', '--port', '8080'], {
    DATABASE_URL: 'postgresql://me:hunter2@db/x',
    AUTH_BEARER_TOKEN: 'sesame',
    CHROMA_URL: 'http://h',
  })
  expect(code).toBe(0)
  expect(stdout).not.toMatch(/hunter2|sesame/)
  const { settings, without_effect } = JSON.parse(stdout)
  expect(without_effect).toEqual(['CHROMA_URL'])
  expect(settings).toEqual(
    expect.arrayContaining([
      { key: 'port', value: 8080, origin: 'flag' },
      { key: 'agentName', value: 'goose', origin: 'file custom.yaml' },
      { key: 'databaseUrl', value: 'postgresql://me:***@db/x', origin: 'env DATABASE_URL' },
      { key: 'authBearerToken', value: '***', origin: 'env AUTH_BEARER_TOKEN' },
      { key: 'host', value: '127.0.0.1', origin: 'default' },
    ]),
  )
})

test('off a terminal, tables are tab-separated and without colour', async () => {
  const { stdout } = await inFolder(['config'])
  expect(stdout.split('\n').slice(0, 2)).toEqual(['SETTING\tVALUE\tORIGIN', 'host\t127.0.0.1\tdefault'])
  expect(stdout).not.toContain('\u001b')
})

test('on a terminal, tables have frames, and colour unless NO_COLOR is set', async () => {
  const coloured = await launch(['config'], { cwd: folder, terminal: true }).ended
  expect(coloured).toMatchObject({ code: 0, output: expect.stringContaining('│') })
  expect(coloured.output).toContain('\u001b[')
  const plain = await launch(['config'], { cwd: folder, terminal: true, env: { NO_COLOR: '1' } }).ended
  expect(plain.output).toContain('│')
  expect(plain.output).not.toContain('\u001b[')
})

async function unusedUrl(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return `http://127.0.0.1:${port}`
}

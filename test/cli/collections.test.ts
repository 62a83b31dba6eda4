import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startServer } from '../support/serve.js'
import { dualstore, dualstoreAlone, freshPath, launch, ndjson, ndjsonFile } from './program.js'

const KEY = 'a-key-for-tests'
const dataDir = freshPath('collections')
const folder = freshPath('files')
let server: Awaited<ReturnType<typeof startServer>>

beforeAll(async () => {
  mkdirSync(folder)
  writeFileSync(file('key'), `${KEY}\n`)
  writeFileSync(file('schema.json'), JSON.stringify(schemaOf('string')))
  writeFileSync(file('other.json'), JSON.stringify(schemaOf('number')))
  server = await startServer({ DUALSTORE_DATA_DIR: dataDir, AUTH_BEARER_TOKEN: KEY }, { until: 'listening' })
})
afterAll(async () => {
  await server?.stop()
  for (const path of [dataDir, folder]) rmSync(path, { recursive: true, force: true })
})

const file = (name: string) => join(folder, name)
const schemaOf = (type: string) => ({ type: 'object', required: ['a'], properties: { a: { type } } })
const lines = (items: readonly object[]) => items.map((item) => `${JSON.stringify(item)}\n`).join('')

// The server runs all the while: locally, the command line is a guest of its PostgreSQL.
const ways = [
  { way: 'local', env: () => ({ DUALSTORE_DATA_DIR: dataDir }) },
  { way: 'remote', env: () => ({ DUALSTORE_URL: server.url, DUALSTORE_KEY: KEY }) },
]

describe.each(ways)('$way', ({ way, env }) => {
  const run = (words: string, input = '') =>
    dualstore(['collections', ...words.split(' ')], { env: env(), input, cwd: folder })
  const json = async (words: string, input?: string) => {
    const ran = await run(`${words} --json`, input)
    return { ...ran, answer: JSON.parse(ran.stdout) }
  }
  const notes = `${way}_notes`

  test('list prints one JSON document on stdout and nothing else there', async () => {
    const { code, answer } = await json('list')
    expect(code).toBe(0)
    expect(answer.map((collection: { name: string }) => collection.name)).toEqual(
      expect.arrayContaining(['agent_tasks', 'opencode_events', 'session_messages']),
    )
    const { stdout } = await run('list')
    expect(stdout).toMatch(/^NAME\tLABEL\tID PREFIX\tDOCUMENTS\tVERSION\tKIND\nagent_tasks\tAgent task\t/)
  })

  test('create takes flags, and a shown definition makes the same collection again', async () => {
    const made = await json(
      `create ${notes} --schema schema.json --label Note --id-prefix nt --index a,created_at --text-index`,
    )
    expect(made).toMatchObject({ code: 0, stderr: expect.stringContaining(`created ${notes}`) })
    expect(made.answer).toMatchObject({
      name: notes,
      label: 'Note',
      id_prefix: 'nt',
      schema: schemaOf('string'),
      indexes: [{ fields: ['a', 'created_at'] }, { type: 'text' }],
    })
    const shown = await json(`show ${notes}`)
    expect(shown.answer).toEqual(made.answer)
    expect((await run(`delete ${notes} --yes`)).code).toBe(0)
    const again = await json('create --from -', shown.stdout)
    const { created_at: _created, updated_at: _updated, version: _version, ...definition } = made.answer
    expect(again.answer).toMatchObject(definition)
    expect(await run(`create ${notes} --schema schema.json`)).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining(`there is a collection "${notes}" already`),
    })
  })

  test('an export imports to the same documents, through files and through pipes', async () => {
    const items = Array.from({ length: 2500 }, (_, n) => ({ id: `n${n}`, a: `text ${n} \u2028 ü`, n }))
    writeFileSync(file('in.ndjson'), lines(items))
    const imported = await json(`import ${notes} in.ndjson`)
    expect(imported.code).toBe(0)
    expect(imported.answer).toEqual({
      received: 2500,
      created: 2500,
      replaced: 0,
      skipped: 0,
      failed: 0,
      errors: [],
      position: expect.any(String),
      interrupted: false,
    })
    expect((await json(`count ${notes}`)).answer).toEqual({ collection: notes, documents: 2500 })
    const out = `${way}.ndjson`
    const exported = await json(`export ${notes} --out ${out}`)
    expect(exported.answer).toMatchObject({ collection: notes, file: out, documents: 2500 })
    const piped = await run(`export ${notes}`)
    expect(piped.stdout).toBe(readFileSync(file(out), 'utf8'))
    const byId = (a: { id?: unknown }, b: { id?: unknown }) => (String(a.id) < String(b.id) ? -1 : 1)
    const read = ndjsonFile(file(out))
    expect(read.map(({ created_at: _c, updated_at: _u, ...item }) => item)).toEqual(items.toSorted(byId))

    expect((await run(`create ${notes}_copy --schema schema.json`)).code).toBe(0)
    expect((await json(`import ${notes}_copy`, piped.stdout)).answer).toMatchObject({ created: 2500 })
    expect((await run(`export ${notes}_copy`)).stdout).toBe(piped.stdout)
  })

  test('on-conflict decides about ids that are taken; failed lines are told and exit with 1', async () => {
    const input = `${lines([
      { id: 'n1', a: 'new' },
      { id: `${way}-x`, a: 'x' },
    ])}\n{"a": 1}\nno json\n`
    const failed = await json(`import ${notes}`, input)
    expect(failed.code).toBe(1)
    expect(failed.answer).toMatchObject({ received: 4, created: 1, failed: 3 })
    expect(failed.answer.errors.map((error: { line: number }) => error.line).toSorted()).toEqual([1, 4, 5])
    const line = lines([{ id: 'n1', a: 'new' }])
    expect((await json(`import ${notes} - --on-conflict skip`, line)).answer).toMatchObject({ skipped: 1 })
    expect((await json(`import ${notes} - --on-conflict replace`, line)).answer).toMatchObject({
      replaced: 1,
    })
    const text = await run(`import ${notes}`, 'no json\n')
    expect(text.stdout).toMatch(/^RECEIVED\tCREATED\tREPLACED\tSKIPPED\tFAILED\n1\t0\t0\t0\t1\nLINE\tID\t/)
  })

  test('export selects, and names the flag that is wrong', async () => {
    const some = await dualstore(['collections', 'export', notes, '--filter', '{"n": {"$lt": 3}}'], {
      env: env(),
    })
    expect(ndjson(some.stdout).map((item) => item.id)).toEqual(['n0', 'n2'])
    expect(await run(`export ${notes} --filter {bad`)).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/error: --filter must be JSON/),
    })
  })

  test('export overwrites only with --yes, and leaves no part of a file that failed', async () => {
    writeFileSync(file('kept.ndjson'), 'kept')
    expect(await run(`export ${notes} --out kept.ndjson`)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--yes overwrites it'),
    })
    expect(readFileSync(file('kept.ndjson'), 'utf8')).toBe('kept')
    expect((await run(`export ${notes} --out kept.ndjson --yes`)).code).toBe(0)
    expect(ndjsonFile(file('kept.ndjson'))).toHaveLength(2501)
    expect((await run(`export no_such_collection --out failed.ndjson`)).code).toBe(1)
    expect(readdirSync(folder).filter((name) => /failed|part/.test(name))).toEqual([])
  })

  test('a reader that closes the pipe ends an export quietly', async () => {
    const child = launch(['collections', 'export', notes], { env: env(), stdout: 'closed' })
    const { code, output } = await child.ended
    expect(code).toBe(0)
    expect(output).not.toMatch(/error|EPIPE/)
  })

  test('update refuses, tries or allows a schema that stored documents do not fit', async () => {
    const refused = await json(`update ${notes} --schema other.json`)
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('--allow-misfits') })
    expect(refused.answer).toMatchObject({ changed: false, misfits: { checked: 2501, count: 2501 } })
    const table = await run(`update ${notes} --schema other.json --dry-run`)
    expect(table).toMatchObject({ code: 1, stderr: expect.stringContaining('dry run') })
    expect(table.stdout).toMatch(/^DOCUMENT\tFIELD\tFAULT\n\S+\titem\.a\tmust be number\n/)
    expect((await json(`show ${notes}`)).answer.schema).toEqual(schemaOf('string'))
    const allowed = await json(`update ${notes} --schema other.json --allow-misfits`)
    expect(allowed).toMatchObject({
      code: 0,
      answer: { changed: true, collection: { schema: schemaOf('number') } },
    })
    const label = await json(`update ${notes} --label Other --clear-indexes`)
    expect(label.answer.collection).toMatchObject({ label: 'Other', indexes: [], schema: schemaOf('number') })
  })

  test('delete works without a terminal only with --yes', async () => {
    expect(await run(`delete ${notes}`)).toMatchObject({ code: 2, stdout: '' })
    expect((await json(`delete ${notes} --yes`)).answer).toEqual({ name: notes, deleted: 2501 })
    expect(await run(`count ${notes}`)).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining(`there is no collection "${notes}"`),
    })
    expect(await run('delete agent_tasks --yes')).toMatchObject({ code: 1, stdout: '' })
  })

  test('Ctrl-C during an import ends behind the last whole line, with an exact report', async () => {
    const target = `${way}_interrupted`
    expect((await run(`create ${target} --schema schema.json`)).code).toBe(0)
    const child = launch(['collections', 'import', target, '-', '--json'], { env: env(), cwd: folder })
    child.type(`${lines([{ a: 'one' }, { a: 'two' }])}{"a": "hal`)
    // On a server's side nothing tells how far it is but what it holds.
    await waitFor(async () => (await json(`count ${target}`)).answer.documents === 2)
    child.signal('SIGINT')
    const { code, output } = await child.ended
    expect(code).toBe(130)
    expect(output).toContain('interrupted: 2 lines')
    expect(output).toMatch(/"received": 2,\s+"created": 2,/)
  })
})

test('health tells whether stores or server are ready', async () => {
  const local = await dualstore(['health', '--json'], { env: { DUALSTORE_DATA_DIR: dataDir } })
  expect(local.code).toBe(0)
  expect(JSON.parse(local.stdout)).toMatchObject({
    ready: true,
    checks: { postgres: { ok: true }, mirror: { ok: true, kind: 'embedded' } },
  })
  const remote = await dualstore(['health', '--json', '--url', server.url, '--key-file', file('key')])
  expect(remote.code).toBe(0)
  expect(JSON.parse(remote.stdout)).toMatchObject({ ready: true })
})

test('a wrong key is refused without being repeated', async () => {
  const { code, stdout, stderr } = await dualstore([
    'collections',
    'list',
    '--url',
    server.url,
    '--key',
    'wrong-key',
  ])
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
  expect(stderr).toMatch(
    /^error: the server refuses the key: invalid authorization header; give one with --key/,
  )
  expect(stderr).not.toContain('wrong-key')
})

test('what is written locally reaches the mirror through the running server, so nothing is said about waiting', async () => {
  const env = { DUALSTORE_DATA_DIR: dataDir }
  const task = { id: 'mirrored', session_id: 's', agent_id: 'a', task_type: 't', status: 'pending' }
  const { stderr } = await dualstore(['collections', 'import', 'agent_tasks'], { env, input: lines([task]) })
  expect(stderr).not.toContain('note:')
  const headers = { authorization: `Bearer ${KEY}`, 'x-dualstore-read-from': 'mirror', connection: 'close' }
  await waitFor(
    async () => (await fetch(`${server.url}/api/v1/agent_tasks/mirrored`, { headers })).status === 200,
  )
})

test('db migrate and status agree that nothing is left to do', async () => {
  const env = { DUALSTORE_DATA_DIR: dataDir }
  const migrate = await dualstore(['db', 'migrate', '--json'], { env })
  expect(JSON.parse(migrate.stdout)).toEqual({ applied: [] })
  const status = await dualstore(['db', 'status', '--json'], { env })
  expect(status.code).toBe(0)
  const { current, latest, pending } = JSON.parse(status.stdout)
  expect({ latest, pending }).toEqual({ latest: current, pending: [] })
})

test('without a server, the embedded stores are started, used and stopped, and the waiting mirror is told', async () => {
  const own = freshPath('own')
  const env = { DUALSTORE_DATA_DIR: own }
  try {
    expect((await dualstoreAlone(['db', 'status'], { env })).code).toBe(1)
    const task = { session_id: 's', agent_id: 'a', task_type: 't', status: 'pending' }
    const { code, stderr } = await dualstoreAlone(['collections', 'import', 'agent_tasks'], {
      env,
      input: lines([task]),
    })
    expect(code).toBe(0)
    expect(stderr).toContain('using the embedded PostgreSQL')
    expect(stderr).toContain('note: the mirror follows when a server runs')
    expect(existsSync(join(own, 'postgres', 'postmaster.pid'))).toBe(false)
  } finally {
    rmSync(own, { recursive: true, force: true })
  }
})

test('serve on a port that is taken says so, closes its stores and exits with 1', async () => {
  const own = freshPath('taken')
  try {
    const { port } = new URL(server.url)
    const { code, stderr } = await dualstoreAlone(['serve', '--port', port], {
      env: { DUALSTORE_DATA_DIR: own },
    })
    expect(code).toBe(1)
    expect(stderr).toMatch(new RegExp(`error: port ${port} is in use; choose another with --port or PORT\n$`))
    expect(existsSync(join(own, 'postgres', 'postmaster.pid'))).toBe(false)
  } finally {
    rmSync(own, { recursive: true, force: true })
  }
})

/** Asks until it is so; the test's own time limit ends it otherwise. */
async function waitFor(question: () => Promise<boolean>): Promise<void> {
  while (!(await question()));
}

import { readFileSync, rmSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { beforeAll, expect, test } from 'vitest'
import { filledDualstore } from '../migrate/support/both-servers.js'
import { brokenServer } from '../migrate/support/planted.js'
import { atEndOfFile } from '../support/leaks.js'
import { dualstore, freshPath, launch } from './program.js'

let target = ''
const file = freshPath('compat')
beforeAll(async () => {
  target = await filledDualstore()
})
atEndOfFile(async () => {
  for (const end of ['.html', '.ndjson']) rmSync(file + end, { force: true })
})

test('a server that keeps the contract: exit 0, one JSON document, and nothing is left of the tests', async () => {
  const { code, stdout, stderr } = await dualstore([
    'compat-check',
    '--target',
    target,
    '--write-tests',
    '--json',
  ])
  const report = JSON.parse(stdout)
  expect({ code, breaking: report.summary.breaking }, stderr).toEqual({ code: 0, breaking: 0 })
  expect(report).toMatchObject({ compatible: true, reference: 'recorded contract', variant: 'a' })
  expect(stderr).toMatch(/12 of 12 documents .* are deleted again/)
  const left = await fetch(`${target}/api/v1/agent_tasks?session_id=compat-check`, {
    headers: { connection: 'close' },
  })
  expect(await left.json()).toMatchObject({ pagination: { total: 0 } })
})

test('a server that breaks it: exit 1, a row for each breakage, and a page that needs nothing else', async () => {
  const page = `${file}.html`
  const broken = await brokenServer(target)
  const { code, stdout, stderr } = await dualstore(['compat-check', '--target', broken, '--html', page])
  expect(code, stderr).toBe(1)
  expect(stdout).toMatch(/^CLASS\tREQUEST\tWHERE\tLEGACY\tTARGET\tWHY\nbreaking\t/)
  expect(stdout).toContain('breaking\tGET /health\theader content-type\t')
  expect(stdout).toContain('ALLOWED\tREQUESTS\tWHY\n')
  const html = readFileSync(page, 'utf8')
  expect(html).toContain('<h1>Breaking differences</h1>')
  expect(html).toContain('&quot;text/plain&quot;')
  expect(html).not.toMatch(/<script|<link|src=|https?:\/\/(?!127\.0\.0\.1)/)
  const again = await dualstore(['compat-check', '--target', broken, '--html', page])
  expect([again.code, again.stderr]).toEqual([2, expect.stringContaining('--yes overwrites it')])
})

test('recorded requests are replayed against what was noted down', async () => {
  const requests = `${file}.ndjson`
  const expected = { status: 404, body: { success: false, error: 'Agent task not found' } }
  await writeFile(requests, `${JSON.stringify({ path: '/api/v1/agent_tasks/none', expect: expected })}\n`)
  const run = (words: string[]) => dualstore(['compat-check', '--target', target, '--replay', ...words])
  const { code, stderr } = await run([requests])
  expect([code, stderr]).toEqual([0, expect.stringContaining('1 request: 0 identical, 1 additive')])
  await writeFile(requests, 'no JSON\n')
  expect(await run([requests])).toMatchObject({ code: 2, stderr: expect.stringContaining('line 1 must be') })
})

test('a shadow passes on and compares until it is interrupted', async () => {
  const words = [
    'compat-check',
    '--target',
    await brokenServer(target),
    '--legacy',
    target,
    '--shadow',
    '127.0.0.1:0',
  ]
  const shadow = launch(words)
  const [, url] = await shadow.seen(/listens on (http:\S+) in front of/)
  const answer = await fetch(`${url}/health`, { headers: { connection: 'close' } })
  expect([answer.headers.get('content-type'), await answer.json()]).toEqual([
    'application/json; charset=utf-8',
    expect.objectContaining({ status: 'ok' }),
  ])
  await shadow.seen(/breaking\tGET \/health\theader content-type/)
  shadow.signal('SIGINT')
  const { code, output } = await shadow.ended
  expect([code, output]).toEqual([1, expect.stringContaining('1 reads were compared')])
})

test.each([
  [['--target', 'nowhere'], '--target must be a URL'],
  [[], "required option '--target <url>' not specified"],
  [['--target', 'http://127.0.0.1:9', '--shadow', 'here'], 'must be an address and a port'],
  [['--target', 'http://127.0.0.1:9', '--write-legacy'], '--write-legacy goes with --write-tests'],
])('wrong usage %j: exit 2', async (words, message) => {
  const { code, stderr } = await dualstore(['compat-check', ...words])
  expect([code, stderr]).toEqual([2, expect.stringContaining(message)])
})

test('a server that is not there: exit 1, and which', async () => {
  const { code, stderr } = await dualstore(['compat-check', '--target', 'http://127.0.0.1:9'])
  expect([code, stderr]).toEqual([1, expect.stringContaining('http://127.0.0.1:9 cannot be reached')])
})

import { beforeAll, expect, test } from 'vitest'
import { openSide, type Side } from '../../src/migrate/compat/exchange.js'
import type { Finding } from '../../src/migrate/compat/findings.js'
import { type ReplayOptions, replay } from '../../src/migrate/compat/replay.js'
import { type Shadow, startShadow } from '../../src/migrate/compat/shadow.js'
import { openStream } from '../support/event-stream.js'
import { bodies } from '../support/http.js'
import { atEndOfFile } from '../support/leaks.js'
import { mongoIsAvailable, testMongo } from '../support/mongo.js'
import { startProxy } from '../support/proxy.js'
import { filledDualstore, filledLegacyServer } from './support/both-servers.js'
import { brokenServer } from './support/planted.js'

const mongo = (await mongoIsAvailable()) ? await testMongo() : undefined
if (mongo !== undefined) atEndOfFile(mongo.close)

const TASKS = '/api/v1/agent_tasks'
let target = ''
let legacy = ''
beforeAll(async () => {
  target = await filledDualstore()
  if (mongo !== undefined) legacy = (await filledLegacyServer(mongo, 'a')).url
})

/** A server that is asked, closed after the file's last test. */
function side(url: string) {
  const opened = openSide({ url })
  atEndOfFile(async () => opened.close())
  return opened
}

const get = async (url: string) => {
  const answer = await fetch(url, { headers: { connection: 'close' } })
  return { status: answer.status, type: answer.headers.get('content-type'), text: await answer.text() }
}

async function* linesOf(requests: readonly unknown[]) {
  for (const request of requests) yield typeof request === 'string' ? request : JSON.stringify(request)
}

async function replayed(requests: readonly unknown[], options: Partial<ReplayOptions> = {}) {
  return replay({
    target: side(target),
    lines: linesOf(requests),
    variant: 'a',
    keyOnTargetOnly: false,
    writeTarget: false,
    writeLegacy: false,
    signal: new AbortController().signal,
    ...options,
  })
}

test.runIf(mongo)(
  'requests of clients are replayed to both, and writes are left out unless allowed',
  async () => {
    const requests = [
      { method: 'GET', path: `${TASKS}?limit=2` },
      { method: 'GET', path: `${TASKS}/age_3` },
      { method: 'GET', path: `${TASKS}/age_3` },
      '',
      { path: `${TASKS}?limit=0` },
      { method: 'POST', path: TASKS, body: bodies.agent_tasks },
    ]
    const report = await replayed(requests, { legacy: side(legacy) })
    expect(report.summary).toEqual({ identical: 0, additive: 0, 'documented fix': 4, breaking: 0 })
    expect(report.findings.find(({ requests }) => requests === 2)?.name).toBe(`GET ${TASKS}/age_3`)
    expect(report.notes).toContainEqual(expect.stringContaining('1 requests that write were left out'))
    const broken = await replayed(requests, {
      legacy: side(legacy),
      target: side(await brokenServer(target)),
    })
    expect(broken.summary.breaking).toBe(0)
    const unlike = [{ path: '/api/v1/session_messages/ses_3' }]
    const told = await replayed(unlike, { legacy: side(legacy), target: side(await brokenServer(target)) })
    expect(told).toMatchObject({ compatible: false, summary: { breaking: 1 } })
  },
)

test('what was noted down is compared with the target alone', async () => {
  const expected = { status: 404, body: { success: false, error: 'Agent task not found' } }
  const report = await replayed([
    { path: `${TASKS}/nothing`, expect: expected },
    { path: `${TASKS}/age_3`, expect: expected },
    { method: 'POST', path: TASKS, body: bodies.agent_tasks, expect: { status: 201 } },
  ])
  expect(report.findings.map(({ name, class: kind, reference }) => [name, kind, reference])).toEqual([
    [`GET ${TASKS}/age_3`, 'breaking', 'recorded answer'],
    [`GET ${TASKS}/nothing`, 'additive', 'recorded answer'],
  ])
})

test.each([
  ['{', 'line 2 must be one JSON object'],
  [{ path: 'http://elsewhere/' }, 'line 2 must have a path'],
  [{ path: '/', expect: { status: 'ok' } }, 'line 2 must have a whole number'],
  [{ path: '/', headers: { a: 1 } }, 'line 2 must have headers'],
])('line %j is refused by its number', async (line, message) => {
  await expect(replayed([{ path: '/health', expect: { status: 200 } }, line])).rejects.toThrow(message)
})

async function shadowed(shadowing: Side, findings: Finding[] = []): Promise<Shadow> {
  return startShadow({
    target: shadowing,
    legacy: side(legacy),
    ownKey: false,
    keyOnTargetOnly: false,
    variant: 'a',
    listen: { host: '127.0.0.1', port: 0 },
    onFinding: (finding) => findings.push(finding),
  })
}

test.runIf(mongo)(
  'in its shadow clients get the answers of the legacy server, and reads are compared',
  async () => {
    const findings: Finding[] = []
    const shadow = await shadowed(side(await brokenServer(target)), findings)
    const paths = [`${TASKS}/age_3`, '/nothing', `${TASKS}/no-such-id`, `${TASKS}/neither-this`]
    for (const path of paths) expect(await get(shadow.url + path)).toEqual(await get(legacy + path))
    const events = await openStream(`${shadow.url}/api/v1/stream/agent_tasks`)
    await events.until(({ event }) => event === 'connection')
    events.close()
    const created = await fetch(`${shadow.url}${TASKS}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', connection: 'close' },
      body: JSON.stringify(bodies.agent_tasks),
    })
    const { data } = (await created.json()) as { data: { id: string } }
    expect((await get(`${legacy}${TASKS}/${data.id}`)).status).toBe(200)
    expect((await get(`${target}${TASKS}/${data.id}`)).status).toBe(404)
    await expect.poll(() => shadow.report().summary.breaking, { timeout: 10_000 }).toBe(2)
    const report = await shadow.stop()
    expect(report.findings[0]).toMatchObject({ name: `GET ${TASKS}/<id>`, class: 'breaking', requests: 2 })
    expect(report.findings.map(({ name }) => name)).toContain('GET /nothing')
    expect(report.notes[0]).toMatch(/^4 reads were compared, 0 left out .* 2 other requests/)
    expect(findings.filter(({ class: kind }) => kind === 'breaking')).toHaveLength(1)
  },
)

test.runIf(mongo)('a target that never answers changes nothing for clients', async () => {
  const network = await startProxy(target)
  atEndOfFile(network.close)
  network.freeze()
  const frozen = openSide({ url: `http://127.0.0.1:${network.port}`, timeoutMs: 300 })
  atEndOfFile(async () => frozen.close())
  const shadow = await shadowed(frozen)
  const answers = await Promise.all(Array.from({ length: 20 }, () => get(`${shadow.url}${TASKS}/age_3`)))
  const direct = await get(`${legacy}${TASKS}/age_3`)
  for (const answer of answers) expect(answer).toEqual(direct)
  const report = await shadow.stop()
  expect(report.compatible).toBe(false)
  expect(report.findings[0]?.differences[0]?.target).toContain('no answer within 300 ms')
})

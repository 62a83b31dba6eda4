// Records what a real OpenCode server emits, with no model behind it:
// node record-opencode.mjs --bin ./node_modules/.bin/opencode --out ./fixture
// Writes events.ndjson, messages.ndjson, sessions.ndjson and manifest.json.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { hostname, tmpdir, userInfo } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const { values: flags } = parseArgs({
  options: { bin: { type: 'string', default: 'opencode' }, out: { type: 'string', default: 'fixture' } },
})
const bin = flags.bin.includes('/') ? resolve(flags.bin) : flags.bin
const root = realpathSync(mkdtempSync(join(tmpdir(), 'opencode-record-')))
const [workspace, home] = [join(root, 'workspace'), join(root, 'home')]
for (const dir of [workspace, home, join(home, 'tmp')]) mkdirSync(dir)
writeFileSync(join(workspace, 'greet.js'), 'export const greet = (name) => "Hello, " + name\n')
writeFileSync(join(workspace, 'notes.md'), '# Notes\n\nCafé, naïve, 漢字, 🎉\n')
const env = {
  PATH: process.env.PATH,
  HOME: home,
  TMPDIR: join(home, 'tmp'),
  SHELL: '/bin/bash',
  USER: 'user',
  LANG: 'C.UTF-8',
  TZ: 'UTC',
  OPENCODE_DISABLE_AUTOUPDATE: '1',
  OPENCODE_DISABLE_MODELS_FETCH: '1',
  OPENCODE_DISABLE_SHARE: '1',
  OPENCODE_DISABLE_LSP_DOWNLOAD: '1',
}
/** Replaces what belongs to this machine. Paths are matched without their leading slash, as session.path holds them. */
function scrub(text) {
  const clean = text.replaceAll(workspace.slice(1), 'workspace/demo').replaceAll(home.slice(1), 'home/user')
  const whole = (word) => new RegExp(`(?<![\\w-])${word.replace(/\W/g, '\\$&')}(?![\\w-])`, 'g')
  const { username } = userInfo() // "root" stays, it is a field name too
  return clean
    .replace(whole(hostname()), 'host')
    .replace(whole(username), username === 'root' ? 'root' : 'user')
}
// --- server, on a free port ---
const probe = createServer().listen(0, '127.0.0.1')
await once(probe, 'listening')
const { port } = probe.address()
await once(probe.close(), 'close')
const base = `http://127.0.0.1:${port}`
const [version, started] = [execFileSync(bin, ['--version'], { env, encoding: 'utf8' }).trim(), Date.now()]
const server = spawn(bin, ['serve', '--port', `${port}`, '--hostname', '127.0.0.1'], {
  cwd: workspace,
  env,
  stdio: ['ignore', 'pipe', 'ignore'],
})
const exited = once(server, 'exit')
process.on('exit', () => {
  if (server.kill('SIGKILL')) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500) // it may still be writing
  rmSync(root, { recursive: true, force: true })
})
await new Promise((ready, fail) => {
  server.stdout.on('data', (chunk) => String(chunk).includes('listening on') && ready())
  server.once('exit', (code) => fail(new Error(`the server ended with ${code}`)))
})
setTimeout(() => {
  throw new Error(`stuck after ${received.at(-1)?.raw}`)
}, 60_000).unref()
const startup_ms = Date.now() - started
// --- feed ---
const received = [] // { received_at, raw, event }
const [waiters, feedAbort] = [new Set(), new AbortController()]
async function followFeed(response, buffer = '') {
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    buffer += chunk
    const frames = buffer.split('\n\n')
    buffer = frames.pop()
    for (const frame of frames) {
      const raw = frame.replace(/^data: /, '') // OpenCode sends one data line per event
      received.push({ received_at: new Date().toISOString(), raw, event: JSON.parse(raw) })
      for (const check of waiters) check()
    }
  }
}
const feed = fetch(`${base}/event`, { signal: feedAbort.signal })
  .then((response) => followFeed(response))
  .catch((error) => {
    if (received.at(-1)?.event.type !== 'server.instance.disposed') throw error
  })
/** Resolves once there is an event at or after index `from` that `match` accepts. */
function seen(match, from = 0, wanted = 'event') {
  return new Promise((done, fail) => {
    const check = () => {
      if (!received.slice(from).some(({ event }) => match(event))) return
      waiters.delete(check)
      clearTimeout(timer)
      done()
    }
    const timer = setTimeout(
      () => fail(new Error(`no ${wanted} within 15 s; refused: ${JSON.stringify(refused)}`)),
      15_000,
    )
    waiters.add(check) && check()
  })
}
const pause = (ms) => new Promise((done) => setTimeout(done, ms))
const refused = {}
/** One request. Refusals are part of the scenario: they are counted, not thrown. */
async function call(method, path, body) {
  const init = { method, headers: { 'content-type': 'application/json' }, body: body && JSON.stringify(body) }
  const response = await fetch(base + path, { ...init, signal: AbortSignal.timeout(20_000) })
  const key = `${method} ${path.replace(/(ses|msg|prt|pty)_\w+/g, ':$1')} -> ${response.status}`
  if (!response.ok) refused[key] = (refused[key] ?? 0) + 1
  const answer = await response.text()
  try {
    return JSON.parse(answer)
  } catch {
    return answer
  }
}
/** A request, and the first event of `type` after it (in its session, unless it makes a new one). */
async function cause(type, method, path, body) {
  const from = received.length
  const id = type !== 'session.created' && path.match(/ses_\w+/)?.[0]
  const result = await call(method, path, body)
  await seen(
    (event) => event.type === type && (!id || event.properties.sessionID === id),
    from,
    `${type} after ${method} ${path}`,
  )
  return result
}
// --- scenario ---
const model = { providerID: 'none', modelID: 'none' } // a prompt for it fails before any network access
const PIXEL =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
const text = (value, extra) => ({ type: 'text', text: value, ...extra })
const file = (filename, mime, url) => ({ type: 'file', filename, mime, url })
const post = (type, session, action, body = {}) =>
  cause(type, 'POST', `/session/${session.id}/${action}`, body)
const create = (title, extra) => cause('session.created', 'POST', '/session', { title, ...extra })
const patch = (session, change) => cause('session.updated', 'PATCH', `/session/${session.id}`, change)
const remove = (session) => cause('session.deleted', 'DELETE', `/session/${session.id}`)
const say = (session, ...parts) =>
  post('message.part.updated', session, 'message', {
    noReply: true,
    parts: parts.map((part) => (part.type ? part : text(part))),
  })
const shell = (session, command) => post('session.idle', session, 'shell', { agent: 'build', command })
async function unicode(session) {
  for (const value of [
    '日本語のメッセージ、中文信息,한국어 메시지',
    'مرحبا بالعالم — שלום עולם',
    '👩‍👩‍👧‍👦 🏳️‍🌈 🇳🇿 e\u0301 \u{1F9D1}\u{1F3FD}‍💻',
    '',
    '   \n  ',
    'Zeile 1\r\nZeile 2\tTab\u2028line separator\u0000nul\u0007bell "quoted" \\back\\slash </script>',
    'lone surrogate: \ud83d.',
  ])
    await say(session, value)
  await shell(
    session,
    "printf 'Grüße, Жизнь, 漢字, 🎉\\n\\033[31mred\\033[0m\\n'; printf '\\xff\\xfe broken utf-8\\n'",
  )
  await patch(session, { title: 'Ελληνικά ✓' })
}
async function shells(session) {
  for (const command of [
    'true',
    'exit 3',
    'echo out; echo err >&2; exit 1',
    'no-such-command',
    'for i in 1 2 3 4 5 6 7 8; do echo step $i; sleep 0.1; done',
    'seq 1 400',
    "for i in $(seq 1 30); do printf 'line %04d of a long log, with padding text to fill it\\n' $i; sleep 0.02; done",
    'printf \'%s\\n\' \'{"json": "inside output"}\'; pwd; echo ~',
    "head -c 70000 /dev/zero | tr '\\0' x",
  ])
    await shell(session, command)
  const from = received.length
  const running = shell(session, 'echo started; sleep 60; echo never')
  await seen((event) => event.properties.part?.state?.metadata?.output?.includes('started'), from)
  await call('POST', `/session/${session.id}/shell`, { agent: 'build', command: 'echo refused while busy' })
  await call('POST', `/session/${session.id}/abort`)
  await running
}
async function attachments(session) {
  await say(
    session,
    'An attachment',
    file('note.txt', 'text/plain', `data:text/plain;base64,${Buffer.from('ünïcode').toString('base64')}`),
  )
  await say(session, 'And an image', file('dot.png', 'image/png', `data:image/png;base64,${PIXEL}`))
  await say(session, 'Read this file', file('notes.md', 'text/plain', `file://${workspace}/notes.md`))
  await say(session, 'This file is missing', file('gone.md', 'text/plain', `file://${workspace}/gone.md`))
  await say(session, 'Ask @explore', {
    type: 'agent',
    name: 'explore',
    source: { value: '@explore', start: 4, end: 12 },
  })
  for (const lines of [20, 120, 400])
    await say(
      session,
      Array.from(
        { length: lines },
        (_, index) => `${index}. The quick brown fox — ${'la '.repeat(index % 9)}\n`,
      ).join(''),
    )
}
async function edits(session) {
  const own = {
    messageID: 'msg_00000000000000000000chosen',
    noReply: true,
    parts: [text('a message whose id the client chose')],
  }
  for (const body of [own, own]) await post('message.updated', session, 'message', body) // twice: the message keeps its id, its parts double
  const { info, parts } = await say(session, 'part one', 'part two', 'part three')
  const path = `/session/${session.id}/message/${info.id}`
  await cause('message.part.updated', 'PATCH', `${path}/part/${parts[0].id}`, {
    ...parts[0],
    text: 'part one, edited',
  })
  await cause('message.part.removed', 'DELETE', `${path}/part/${parts[1].id}`)
  const gone = await say(session, 'a message to be deleted')
  await cause('message.removed', 'DELETE', `/session/${session.id}/message/${gone.info.id}`)
  const reverted = await say(session, 'a message to be reverted')
  await post('session.updated', session, 'revert', { messageID: reverted.info.id })
  await post('session.updated', session, 'unrevert')
  await say(await post('session.created', session, 'fork'), 'only in the fork')
  await post('session.created', session, 'fork', { messageID: info.id })
}
async function failures(session) {
  await post('session.error', session, 'message', { model, parts: [text('nobody answers this')] })
  await post('session.error', session, 'prompt_async', { model, parts: [text('nor this')] })
  await post('session.error', session, 'command', { command: 'no-such-command', arguments: '' })
  await post('message.part.updated', session, 'summarize', model)
  await call('POST', `/session/${session.id}/message`, { parts: 'not a list' })
}
async function worker(number) {
  // six of these run at once, so their events interleave
  const session = await create(`Worker ${number}`)
  for (let step = 1; step <= 3; step++) {
    await say(session, `worker ${number}, step ${step}`)
    await shell(
      session,
      `echo worker ${number} step ${step}; sleep 0.0${number}; exit ${(number + step) % 2}`,
    )
  }
  await (number % 3 ? patch(session, { title: `Worker ${number} finished` }) : remove(session))
}
await seen((event) => event.type === 'server.connected')
const main = await create('Fix the login timeout')
await say(main, 'The login form times out after 30 seconds. Can you find out why?')
await say(
  main,
  'Look at these two places:',
  '1. auth/session.ts\n2. auth/token.ts',
  text('(added by a hook)', { synthetic: true }),
)
for (const command of ['ls -1 && cat greet.js', 'cat missing-file.txt']) await shell(main, command)
await patch(main, {
  title: 'Fix the login timeout (done)',
  metadata: { ticket: 'DEMO-17', labels: ['auth', 'bug'] },
})
await unicode(await create('Übersetzung 翻訳 🌍'))
await shells(await create('Shell commands'))
await attachments(await create()) // keeps its default title
await edits(main)
const parent = await create('Parent')
for (const title of ['Child A', 'Child B'])
  await say(await create(title, { parentID: parent.id }), `hello from ${title}`)
await Promise.all([
  remove(parent),
  create('Archived').then((session) => patch(session, { time: { archived: Date.now() } })),
]) // its children go too
await failures(main)
const pty = await cause('pty.created', 'POST', '/pty', { command: '/bin/cat', title: 'demo terminal' })
await cause('pty.deleted', 'DELETE', `/pty/${pty.id}`)
await cause('tui.toast.show', 'POST', '/tui/show-toast', {
  title: 'Demo',
  message: 'a toast ✓',
  variant: 'info',
})
await Promise.all([1, 2, 3, 4, 5, 6].map(worker))
for (let before, tries = 0; before !== received.length && tries < 12; tries++) {
  before = received.length
  await pause(400)
} // until silent
const sessions = await call('GET', '/session?limit=1000')
const messages = []
for (const { id } of sessions)
  for (const message of await call('GET', `/session/${id}/message`))
    messages.push({ session_id: id, message })
await cause('server.instance.disposed', 'POST', '/instance/dispose')
await Promise.race([feed, pause(1000)]) // the server ends the feed here
feedAbort.abort()
for (const signal of ['SIGTERM', 'SIGTERM', 'SIGKILL']) {
  // the server may swallow its first SIGTERM
  if (server.kill(signal) && (await Promise.race([exited, pause(1500)]))) break
}
// --- output ---
const counts = {}
for (const { event } of received) counts[event.type] = (counts[event.type] ?? 0) + 1
const manifest = {
  opencode_version: version,
  recorded_at: new Date().toISOString(),
  startup_ms,
  model: 'none',
  feed: 'GET /event',
  command: "node record-opencode.mjs --bin <opencode-ai's binary> --out <folder>",
  server: 'opencode serve --port <free port> --hostname 127.0.0.1',
  events: received.length,
  messages: messages.length,
  sessions: sessions.length,
  counts_by_type: Object.fromEntries(Object.entries(counts).sort()),
  refused_requests: refused,
}
mkdirSync(flags.out, { recursive: true })
const write = (name, lines) => writeFileSync(join(flags.out, name), `${scrub(lines.join('\n'))}\n`)
write(
  'events.ndjson',
  received.map(({ received_at, raw }) => `{"received_at":"${received_at}","event":${raw}}`),
)
for (const [name, list] of Object.entries({ messages, sessions }))
  write(
    `${name}.ndjson`,
    list.map((entry) => JSON.stringify(entry)),
  )
write('manifest.json', [JSON.stringify(manifest, null, 2)])
console.log(JSON.stringify(manifest, null, 2))
process.exit()

// Where the server spends its time: runs it under V8's profiler with a load on it, and draws a flame graph.
//   npm run profile                      reads one document, over and over
//   npm run profile -- writes            creates documents; also: lists
//   npm run profile -- reads 20 out.svg  for 20 s, into that file
// Uses DATABASE_URL when it is set, and an embedded PostgreSQL otherwise. The documents that it makes are deleted with
// the embedded data; in a database of yours they stay, in the collection session_messages.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import autocannon from 'autocannon'
import { flameGraph } from './flame-graph.js'

const PROGRAM = fileURLToPath(new URL('../dist/bin/dualstore.js', import.meta.url))
const COLLECTION = '/api/v1/session_messages'
const CONNECTIONS = 32
const body = JSON.stringify({ session_id: 'profile', role: 'user', content: 'x'.repeat(400) })
const json = { 'content-type': 'application/json' }

/** What can be profiled: requests, given the id of a document that is there. */
const loads = {
  reads: (id) => ({ method: 'GET', path: `${COLLECTION}/${id}` }),
  lists: () => ({ method: 'GET', path: `${COLLECTION}?session_id=profile&limit=50` }),
  writes: () => ({ method: 'POST', path: COLLECTION, headers: json, body }),
}

const [name = 'reads', seconds = '10', output = 'profile.svg'] = process.argv.slice(2)
if (!Object.hasOwn(loads, name) || !(Number(seconds) > 0)) {
  console.error(`usage: npm run profile -- [${Object.keys(loads).join('|')}] [seconds] [file.svg]`)
  process.exit(2)
}

const directory = await mkdtemp(join(tmpdir(), 'dualstore-profile-'))
// As root, PostgreSQL runs as a user of its own, who must be able to enter it.
await chmod(directory, 0o755)
const flags = [
  '--cpu-prof',
  '--cpu-prof-dir',
  directory,
  PROGRAM,
  'serve',
  '--port',
  '0',
  '--data-dir',
  join(directory, 'data'),
]
const server = spawn(process.execPath, flags, {
  env: { ...process.env, LOG_LEVEL: 'info' },
  stdio: ['ignore', 'pipe', 'inherit'],
})
try {
  const url = await listening(server)
  const made = await fetch(url + COLLECTION, { method: 'POST', headers: json, body })
  const { data } = await made.json()
  const result = await autocannon({
    url,
    connections: CONNECTIONS,
    duration: Number(seconds),
    requests: [loads[name](data.id)],
  })
  server.kill('SIGTERM')
  await once(server, 'exit')
  const file = (await readdir(directory)).find((entry) => entry.endsWith('.cpuprofile'))
  const profile = JSON.parse(await readFile(join(directory, file), 'utf8'))
  const rate = Math.round(result.requests.average)
  await writeFile(output, flameGraph(profile, `dualstore, ${name}: ${rate} requests/s under the profiler`))
  console.log(`${rate} requests/s, ${result.non2xx} answers that were not 2xx; ${output}`)
} finally {
  server.kill('SIGKILL')
  await rm(directory, { recursive: true, force: true })
}

/** The address that the server says it listens on. */
async function listening({ stdout }) {
  let text = ''
  for await (const part of stdout.iterator({ destroyOnReturn: false })) {
    text += part
    const [, url] = /listens on (http:\/\/[\w.:]+)/.exec(text) ?? []
    if (url === undefined) continue
    stdout.resume()
    return url
  }
  throw new Error(`the server did not start:\n${text}`)
}

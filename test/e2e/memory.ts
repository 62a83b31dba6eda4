import { request } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { afterAll, expect, test } from 'vitest'
import { dataDirectory } from '../support/directory.js'
import { startMongo } from '../support/mongo.js'
import type { Program } from '../support/process.js'
import { residentMb } from '../support/resident.js'
import { startServer } from '../support/serve.js'

// npm run test:memory. DOCUMENTS shortens it, BYTES makes larger documents, MIRROR=mongodb mirrors into a MongoDB.
const documents = Number(process.env.DOCUMENTS ?? 1_000_000)
/** Of each document, about. */
const bytes = Number(process.env.BYTES ?? 500)
const kind = process.env.MIRROR === 'mongodb' ? 'mongodb' : 'embedded'
const SAMPLE_MS = 1000
/** For documents of 500 bytes; a few hundred megabytes more when each is megabytes large. */
const MAX_MB = Number(process.env.MAX_MB ?? 400)
/** How much the memory of the first fifth and of the end may differ. */
const GROWTH = 0.3

interface Row {
  'documents/s': number
  seconds: number
  'min MB': number
  'median MB': number
  'max MB': number
  'after 20 % MB': number
  'end MB': number
}
const table: Record<string, Row> = {}

test(`import and export of ${documents} documents in flat memory, ${kind} mirror`, async () => {
  const mongo = kind === 'mongodb' ? await startMongo() : undefined
  const env = { DUALSTORE_DATA_DIR: await dataDirectory(), ...(mongo && { MONGODB_URI: mongo.uri }) }
  const server = await startServer(env)
  try {
    let done = 0
    table.import = await measured(
      server,
      () => done,
      async () => {
        const report = await importAll(server.url, () => done++)
        expect(report).toMatchObject({ success: true, data: { received: documents, created: documents } })
      },
    )
    done = 0
    table.export = await measured(
      server,
      () => done,
      async () => {
        await exportAll(server.url, (lines) => {
          done += lines
        })
        expect(done).toBe(documents)
      },
    )
    for (const row of Object.values(table)) {
      expect(row['max MB']).toBeLessThan(MAX_MB)
      expect(Math.abs(row['end MB'] / row['after 20 % MB'] - 1)).toBeLessThan(GROWTH)
    }
    const exit = await server.stop(30_000)
    expect(exit.code).toBe(0)
  } finally {
    await server.kill9()
    await mongo?.stop()
  }
})

afterAll(() => console.table(table))

/** Lines that are made as they are sent. The filler does not compress well, as real text would not wholly. */
function* lines(onLine: () => void): Generator<string> {
  let filler = ''
  for (let at = 1; filler.length < bytes - 250; at++) filler += `${Math.sin(at).toString(36).slice(2)} `
  let chunk = ''
  for (let number = 0; number < documents; number++) {
    const id = `m-${number.toString().padStart(9, '0')}`
    const metadata = {
      number,
      tags: ['memory', `t${number % 97}`],
      nested: { odd: number % 2 === 1, at: number * 1.5 },
    }
    chunk += `${JSON.stringify({ id, session_id: `s${number % 1000}`, role: 'user', content: `${filler}${number}`, metadata })}\n`
    onLine()
    if (chunk.length < 64 * 1024) continue
    yield chunk
    chunk = ''
  }
  yield chunk
}

async function importAll(url: string, onLine: () => void): Promise<unknown> {
  const sending = request(`${url}/api/v1/session_messages/import`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson', connection: 'close' },
  })
  const answer = new Promise<string>((resolve, reject) => {
    sending.once('error', reject)
    sending.once('response', (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (part: string) => {
        text += part
      })
      response.once('end', () => resolve(text))
    })
  })
  await pipeline(Readable.from(lines(onLine), { objectMode: true, highWaterMark: 1 }), sending)
  return JSON.parse(await answer)
}

async function exportAll(url: string, onLines: (count: number) => void): Promise<void> {
  const answer = await fetch(`${url}/api/v1/session_messages/export`, { headers: { connection: 'close' } })
  expect(answer.status).toBe(200)
  for await (const chunk of answer.body as unknown as AsyncIterable<Uint8Array>) {
    let count = 0
    for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, at + 1)) count++
    onLines(count)
  }
}

/** Samples the server's resident memory while `work` runs. */
async function measured(server: Program, done: () => number, work: () => Promise<void>): Promise<Row> {
  const samples: { done: number; mb: number }[] = []
  const sample = async () => samples.push({ done: done(), mb: await residentMb(server.pid) })
  const timer = setInterval(() => void sample().catch(() => {}), SAMPLE_MS)
  const began = performance.now()
  await work().finally(() => clearInterval(timer))
  await sample()
  const seconds = (performance.now() - began) / 1000
  const sorted = samples.map(({ mb }) => mb).sort((one, other) => one - other)
  return {
    'documents/s': Math.round(documents / seconds),
    seconds: Math.round(seconds),
    'min MB': sorted[0]!,
    'median MB': sorted[Math.floor(sorted.length / 2)]!,
    'max MB': sorted.at(-1)!,
    'after 20 % MB': around(samples, 0.2),
    'end MB': around(samples, 1),
  }
}

/** The median of the samples in the tenth of the work that ends at `share`: one sample is as the collector left it. */
function around(samples: readonly { done: number; mb: number }[], share: number): number {
  const near = samples.filter(({ done }) => done <= share * documents && done >= (share - 0.1) * documents)
  const sorted = (near.length > 0 ? near : samples.slice(-1)).map(({ mb }) => mb).sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)]!
}

import { afterAll, expect, test } from 'vitest'
import { dataDirectory } from '../support/directory.js'
import { startMongo } from '../support/mongo.js'
import { residentMb } from '../support/resident.js'
import { startServer } from '../support/serve.js'
import { importMessages, mirrored, runJob } from './support/verified-server.js'

// npm run test:verify:memory. DOCUMENTS shortens it, BYTES makes larger documents, MIRROR=mongodb takes a MongoDB.
const documents = Number(process.env.DOCUMENTS ?? 1_000_000)
const bytes = Number(process.env.BYTES ?? 500)
const kind = process.env.MIRROR === 'mongodb' ? 'mongodb' : 'embedded'
const MAX_MB = Number(process.env.MAX_MB ?? 200)
const SAMPLE_MS = 500
const table: Record<string, Record<string, number>> = {}

test(`a verification of ${documents} documents stays under ${MAX_MB} MB and tells its progress, ${kind} mirror`, async () => {
  const mongo = kind === 'mongodb' ? await startMongo() : undefined
  const env = {
    DUALSTORE_DATA_DIR: await dataDirectory(),
    DUALSTORE_MIRROR_TIMEOUT_MS: '30000',
    ...(mongo && { MONGODB_URI: mongo.uri }),
  }
  let server = await startServer(env)
  try {
    await importMessages(server.url, documents, bytes)
    await mirrored(server.url)
    // Another process, so that only what the verification takes is measured.
    await server.stop(60_000)
    server = await startServer(env)
    const before = await residentMb(server.pid)
    const samples: number[] = []
    const timer = setInterval(() => {
      void residentMb(server.pid).then((mb) => samples.push(mb))
    }, SAMPLE_MS)
    const progress: number[] = []
    const began = performance.now()
    const { job } = await runJob(server.url, 'verify', {}, (state) => {
      if (state.progress !== null) progress.push(state.progress.documents)
    }).finally(() => clearInterval(timer))
    const seconds = (performance.now() - began) / 1000
    const max = Math.max(...samples)
    const half = samples.slice(Math.floor(samples.length / 2))
    table[`${kind}, ${documents} documents of ${bytes} bytes`] = {
      seconds: Math.round(seconds),
      'documents/s': Math.round(documents / seconds),
      'before MB': before,
      'max MB': max,
      'max of the second half MB': Math.max(...half),
      'states of progress': new Set(progress).size,
    }
    expect(job.result).toMatchObject({ agree: true, documents })
    expect(progress).toEqual([...progress].sort((one, other) => one - other))
    expect(new Set(progress).size).toBeGreaterThan(2)
    expect(max).toBeLessThan(MAX_MB)
    await server.stop(60_000)
  } finally {
    await server.kill9()
    await mongo?.stop()
  }
})

afterAll(() => console.table(table))

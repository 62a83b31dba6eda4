import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { Document } from 'mongodb'
import { afterAll, expect, test } from 'vitest'
import { shippedCollections } from '../../src/server/schemas/shipped-collections.js'
import { dataDirectory } from '../support/directory.js'
import { serverIsAvailable, startMongo } from '../support/mongo.js'
import { embeddedRaws, mongoRaws, type Raws } from '../support/plant.js'
import type { Program } from '../support/process.js'
import { startServer } from '../support/serve.js'
import { importMessages, mirrored, runJob } from './support/verified-server.js'

// npm run test:verify. DOCUMENTS and PLANTED make it smaller, MIRROR=embedded or mongodb runs one half.
const documents = Number(process.env.DOCUMENTS ?? 100_000)
const planted = Number(process.env.PLANTED ?? 1000)
const only = process.env.MIRROR
const messages = shippedCollections.find(({ name }) => name === 'session_messages')
if (messages === undefined) throw new Error('session_messages is shipped')
const table: Record<string, Record<string, number>> = {}

const kinds = ['missing', 'extra', 'changed', 'changed type', 'wrong order of versions'] as const

test('embedded mirror', async ({ skip }) => {
  if (only !== undefined && only !== 'embedded') return skip()
  const dataDir = await dataDirectory()
  const raws = embeddedRaws(join(dataDir, 'mirror'), messages)
  await plantedRun('embedded', { DUALSTORE_DATA_DIR: dataDir }, raws)
})

test('MongoDB mirror', async ({ skip }) => {
  if ((only !== undefined && only !== 'mongodb') || !(await serverIsAvailable())) return skip()
  const mongo = await startMongo()
  try {
    const env = {
      DUALSTORE_DATA_DIR: await dataDirectory(),
      MONGODB_URI: mongo.uri,
      DUALSTORE_MIRROR_TIMEOUT_MS: '30000',
    }
    await plantedRun('mongodb', env, mongoRaws({ uri: mongo.uri, database: 'database' }, messages))
  } finally {
    await mongo.stop()
  }
})

afterAll(() => console.table(table))

async function plantedRun(kind: string, env: Record<string, string>, raws: Raws): Promise<void> {
  let server: Program = await startServer(env)
  const timed = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    const began = performance.now()
    const result = await work()
    table[kind] = { ...table[kind], [`${what} s`]: Math.round((performance.now() - began) / 100) / 10 }
    return result
  }
  try {
    await timed('import', () => importMessages(server.url, documents, 500))
    await timed('mirror', () => mirrored(server.url))
    // Nobody else has the mirror open, nor writes to it, while differences are planted.
    await server.stop(60_000)
    const right = await raws.read()
    expect(right.size).toBe(documents)
    const wrong = await plant(raws, right)
    const before = prints(await raws.read())

    server = await startServer(env)
    const verified = await timed('verify', () => runJob(server.url, 'verify', {}))
    expect(Object.fromEntries(verified.findings.map((one) => [one.id, one.kind]))).toEqual(
      Object.fromEntries(wrong),
    )
    expect(verified.job.result).toMatchObject({
      agree: false,
      documents,
      missing: count(wrong, 'missing'),
      extra: count(wrong, 'extra'),
      different: count(wrong, 'different'),
      foreign: 0,
      unsettled: 0,
    })

    const dry = await timed('dry run', () => runJob(server.url, 'repair', {}))
    expect(dry.job.result).toMatchObject({ agree: false, repaired: 0 })
    const repaired = await timed('repair', () => runJob(server.url, 'repair', { apply: true }))
    expect(repaired.job.result).toMatchObject({ agree: true, repaired: planted, failed: 0 })
    expect(repaired.findings.map(({ id }) => id).sort()).toEqual([...wrong.keys()].sort())
    const again = await timed('verify again', () => runJob(server.url, 'verify', {}))
    expect(again.job.result).toMatchObject({ agree: true, documents })
    await server.stop(60_000)

    const after = await raws.read()
    expect(after.size).toBe(documents)
    const changed = [...prints(after)].filter(([id, print]) => before.get(id) !== print).map(([id]) => id)
    expect(changed.filter((id) => !wrong.has(id))).toEqual([])
    for (const id of wrong.keys()) expect(withoutSeq(after.get(id)), id).toEqual(withoutSeq(right.get(id)))
  } finally {
    await server.kill9()
  }
}

/** Plants each kind equally often, all over the collection; what a verification must call each, by id. */
async function plant(
  raws: Raws,
  right: ReadonlyMap<string, Document>,
): Promise<Map<string, 'missing' | 'extra' | 'different'>> {
  const ids = [...right.keys()].sort()
  const wrong = new Map<string, 'missing' | 'extra' | 'different'>()
  const put: Document[] = []
  const removed: string[] = []
  for (let index = 0; index < planted; index++) {
    const id = ids[Math.floor((index * documents) / planted)] ?? ''
    const document = structuredClone(right.get(id)) as Document
    const kind = kinds[index % kinds.length]
    if (kind === 'missing') removed.push(id)
    if (kind === 'extra') put.push({ ...document, _id: `${id}x`, id: `${id}x` })
    if (kind === 'changed') put.push({ ...document, text: `${document.text} forged` })
    if (kind === 'changed type') {
      put.push({ ...document, metadata: { ...document.metadata, number: String(document.metadata.number) } })
    }
    if (kind === 'wrong order of versions') {
      // An older version that came last, or a newer one than there has ever been.
      const dualstore = index % 2 === 0 ? { seq: 0, version: 0 } : { seq: 1e12, version: 99 }
      put.push({
        ...document,
        text: 'of another version',
        dualstore: { ...document.dualstore, ...dualstore },
      })
    }
    if (kind === 'missing') wrong.set(id, 'missing')
    else if (kind === 'extra') wrong.set(`${id}x`, 'extra')
    else wrong.set(id, 'different')
  }
  await raws.put(put)
  await raws.remove(removed)
  expect(wrong.size).toBe(planted)
  return wrong
}

function count(wrong: ReadonlyMap<string, string>, kind: string): number {
  return [...wrong.values()].filter((one) => one === kind).length
}

function prints(all: ReadonlyMap<string, Document>): Map<string, string> {
  return new Map(
    [...all].map(([id, document]) => [
      id,
      createHash('sha256').update(JSON.stringify(document)).digest('base64'),
    ]),
  )
}

function withoutSeq(document: Document | undefined): Document | undefined {
  return document && { ...document, dualstore: { ...document.dualstore, seq: null } }
}

import type { Process } from '../channel.js'
import { messages } from '../documents.js'
import { load, post } from '../load.js'
import { compared, type Row } from '../report.js'
import { type Contestant, inRounds, type Sample, withCpu } from '../rounds.js'
import type { Stage } from '../stage.js'

const BATCH = 500
const CLIENTS = 4
/** Documents a second, log included (design of the benchmark's targets). */
const TARGET = 36_000
/** About a second's worth of an import. */
const IMPORT = 20_000

/** Many documents at once: batches with a result each and an NDJSON stream, against one multi-row insert a request. */
export async function bulk(stage: Stage): Promise<Row[]> {
  const { rounds, seconds, server, unmirrored, mirrored } = stage
  const lines = messages(Math.round(IMPORT * Math.min(1, seconds))).map((item) => JSON.stringify(item))
  const body = lines.join('\n')
  const imports = (server: Process): Contestant => ({
    name: 'dualstore',
    run: () =>
      withCpu(server, async () => {
        const started = performance.now()
        await post(`${server.url}/api/v1/session_messages/import`, 'application/x-ndjson', body)
        return { count: lines.length, rate: (lines.length * 1000) / (performance.now() - started) }
      }),
  })
  const operations = { operations: messages(BATCH).map((item) => ({ op: 'create', item })) }

  stage.say('bulk')
  const [importing, importingAll, batch, plain] = await inRounds(
    [
      imports(unmirrored),
      { ...imports(server), settle: mirrored },
      {
        name: 'dualstore',
        run: () => batches(unmirrored, seconds, '/api/v1/session_messages/batch', operations),
      },
      plainBulk(stage),
    ],
    rounds,
  )
  return [
    compared('bulk: NDJSON import, one stream, log included', 'documents/s', importing, plain, {
      atLeast: TARGET,
    }),
    compared('the same, mirror following in the same process', 'documents/s', importingAll, plain),
    compared(`bulk: batches of ${BATCH}, ${CLIENTS} clients, log included`, 'documents/s', batch, plain, {
      atLeast: TARGET,
    }),
  ]
}

/** The multi-row insert that one writes by hand. */
export function plainBulk({ handwritten, seconds }: Stage): Contestant {
  const items = messages(BATCH)
  return { name: 'Fastify + pg', run: () => batches(handwritten, seconds, '/bulk', items) }
}

function batches(server: Process, seconds: number, path: string, body: unknown): Promise<Sample> {
  const headers = { 'content-type': 'application/json' }
  const request = { method: 'POST' as const, path, headers, body: JSON.stringify(body) }
  return load({ server, connections: CLIENTS, seconds, worth: BATCH, requests: () => [request] })
}

import { setTimeout as delay } from 'node:timers/promises'
import type { Pool } from '../../../../src/server/db/pool.js'
import { until } from '../../../support/follower.js'
import { createDraw, type Draw } from '../random.js'
import { COLLECTIONS, type CUSTOM, LATE, randomBody, randomId, randomPatch } from './documents.js'
import { startSqlWriter } from './sql-writer.js'

/** Answered writes by kind, and what came of the others. */
export type WriteTally = Record<
  'create' | 'put' | 'patch' | 'delete' | 'batch' | 'import' | 'sql' | 'rolledBack' | 'refused' | 'broken',
  number
>

export interface WritersOptions {
  seed: number
  /** Over HTTP; one more writes SQL. */
  clients: number
  url(draw: Draw): string
  pool: Pool
  onFault(fault: string): void
}

export interface Writers {
  tally: WriteTally
  stop(): Promise<void>
}

const JSON_TYPE = { 'content-type': 'application/json' }
// Conditions that did not hold, documents that are gone or taken, and a collection that is not there just now.
const EXPECTED = new Set([200, 201, 404, 409, 412, 503])

/** Writers of every kind, each going to a random instance with every request, all on the same few documents. */
export function startWriters(options: WritersOptions): Writers {
  const tally: WriteTally = {
    create: 0,
    put: 0,
    patch: 0,
    delete: 0,
    batch: 0,
    import: 0,
    sql: 0,
    rolledBack: 0,
    refused: 0,
    broken: 0,
  }
  const stopping = new AbortController()
  const client = async (number: number): Promise<void> => {
    const draw = createDraw(options.seed * 1000 + number)
    while (!stopping.signal.aborted) await write(options, draw, tally)
  }
  const running = [
    ...Array.from({ length: options.clients }, (_, number) => client(number)),
    startSqlWriter({
      pool: options.pool,
      draw: createDraw(options.seed * 1000 + 999),
      tally,
      signal: stopping.signal,
    }),
  ]
  return {
    tally,
    stop: async () => {
      stopping.abort()
      await Promise.all(running)
    },
  }
}

async function write(options: WritersOptions, draw: Draw, tally: WriteTally): Promise<void> {
  const collection = draw.from([...COLLECTIONS, ...COLLECTIONS, LATE])
  const base = `${options.url(draw)}/api/v1/${collection}`
  const id = randomId(draw)
  const kind = draw.from(['create', 'put', 'put', 'patch', 'patch', 'delete', 'batch', 'import'] as const)
  const body = () => randomBody(draw, collection)
  const send = (url: string, method: string, content?: string, headers: Record<string, string> = JSON_TYPE) =>
    fetch(url, {
      method,
      ...(content !== undefined && { body: content, headers }),
      signal: AbortSignal.timeout(20_000),
    })
  const requests = {
    create: () => send(base, 'POST', JSON.stringify(draw.chance(0.5) ? { id, ...body() } : body())),
    put: () => send(`${base}/${id}`, 'PUT', JSON.stringify(body())),
    patch: () => send(`${base}/${id}`, 'PATCH', JSON.stringify(randomPatch(draw))),
    delete: () => send(`${base}/${id}`, 'DELETE'),
    batch: () => send(`${base}/batch`, 'POST', JSON.stringify({ operations: operations(draw, collection) })),
    import: () =>
      send(
        `${base}/import?on_conflict=${draw.from(['error', 'skip', 'replace'])}`,
        'POST',
        lines(draw, collection),
        {
          'content-type': 'application/x-ndjson',
        },
      ),
  }
  try {
    const answer = await requests[kind]()
    const text = await answer.text()
    if (!EXPECTED.has(answer.status)) options.onFault(`${kind} is answered with ${answer.status}: ${text}`)
    if (answer.status === 503) {
      tally.refused++
      await delay(20)
    } else tally[kind]++
  } catch {
    // Its instance was killed: the write may be in the log or not, which only the log can tell.
    tally.broken++
    await delay(20)
  }
}

/** Up to eight operations, often on the same document, so that one request leaves several changes of it. */
function operations(draw: Draw, collection: string): object[] {
  return Array.from({ length: 1 + draw.below(8) }, () => {
    const id = randomId(draw)
    return draw.from([
      () => ({ op: 'create', item: { id, ...randomBody(draw, collection) } }),
      () => ({ op: 'put', id, item: randomBody(draw, collection) }),
      () => ({ op: 'patch', id, patch: randomPatch(draw) }),
      () => ({ op: 'delete', id }),
    ])()
  })
}

/** NDJSON whose documents bring their own times, some in the past. */
function lines(draw: Draw, collection: string): string {
  const items = Array.from({ length: 1 + draw.below(20) }, () => {
    const created_at = new Date(Date.now() - draw.below(30_000)).toISOString()
    return { id: randomId(draw), ...randomBody(draw, collection), created_at, updated_at: created_at }
  })
  return ndjson(items)
}

const ndjson = (items: readonly object[]) => items.map((item) => JSON.stringify(item)).join('\n')

export async function importAll(url: string, collection: string, items: readonly object[]): Promise<void> {
  const answer = await fetch(`${url}/api/v1/${collection}/import`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: ndjson(items),
  })
  if (answer.status !== 200) throw new Error(`${collection}: ${answer.status} ${await answer.text()}`)
  await answer.arrayBuffer()
}

/** Makes a collection whose documents may hold anything; a store that is away for a moment is waited for. */
export async function createCollection(url: string, name: typeof CUSTOM | typeof LATE): Promise<void> {
  const definition = { name, label: 'Note', id_prefix: 'note', schema: { type: 'object', properties: {} } }
  await until(async () => {
    const answer = await fetch(`${url}/api/v1/collections`, {
      method: 'POST',
      headers: JSON_TYPE,
      body: JSON.stringify(definition),
    })
    const text = await answer.text()
    // An answer that was lost on its way may have been a success.
    if (answer.status === 201 || answer.status === 409) return true
    if (answer.status !== 503) throw new Error(`${name}: ${answer.status} ${text}`)
    return false
  })
}

/** Drops a collection with its documents, whose deletions are in the log. */
export async function dropCollection(url: string, name: string): Promise<void> {
  const answer = await fetch(`${url}/api/v1/collections/${name}?confirm=${name}`, { method: 'DELETE' })
  if (answer.status !== 200) throw new Error(`${name}: ${answer.status} ${await answer.text()}`)
  await answer.arrayBuffer()
}

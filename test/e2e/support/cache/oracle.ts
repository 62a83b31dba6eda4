import type { Pool } from '../../../../src/server/db/pool.js'
import { startServer } from '../../../support/serve.js'
import { createDraw, type Draw } from '../random.js'

export interface CacheOracleOptions {
  seed: number
  databaseUrl: string
  /** To write past both instances. */
  pool: Pool
  /** Answers to check. */
  checks: number
  onProgress?: (checks: number) => void
}

export interface CacheReport {
  /** Answers that were held against what had been acknowledged. */
  checks: number
  writes: number
  /** Of the answers those that the instances gave from their caches. */
  hits: number
  /** 304 among the answers. */
  unmodified: number
  violations: string[]
}

const COLLECTION = 'notes'
const DOCUMENTS = 60
/** The first of them are never deleted, so that an ETag means one state only. */
const STANDING = 30
const READERS = 12
const WRITERS = 3
/** What an instance may not know of others' writes (services/document-cache.ts). */
const LAG_MS = 1000
const INSTANCES = 2

/** One write of a document, in the order in which they were made: never two of one document at the same time. */
interface Made {
  /** Stands in the document. */
  n: number
  /** Which instance acknowledged it; none for SQL. */
  instance: number | undefined
  deleted: boolean
  /** performance.now() of the acknowledgement; Infinity before. */
  acknowledgedAt: number
}

interface Known {
  made: Made[]
  busy: boolean
  /** Which write an ETag stands for, as answers have told. */
  versions: Map<string, number>
}

/**
 * Two instances on one database, random reads, and random writes through both and through SQL. Every answer must be a
 * state that was written, not older than the instance's own last acknowledged write, nor than anybody's write that was
 * acknowledged a second before.
 */
export async function cacheOracle(options: CacheOracleOptions): Promise<CacheReport> {
  const { seed, databaseUrl, pool, checks, onProgress } = options
  const env = {
    DATABASE_URL: databaseUrl,
    DUAL_WRITE_ENABLED: 'false',
    DATABASE_POOL_SIZE: '6',
    // However busy the machine is: what is refused tells nothing about the cache.
    DUALSTORE_MAX_EVENT_LOOP_DELAY_MS: '0',
    DUALSTORE_DATABASE_SILENCE_MS: '60000',
    DUALSTORE_DATABASE_CONNECT_TIMEOUT_MS: '60000',
    DUALSTORE_DATABASE_STATEMENT_TIMEOUT_MS: '60000',
  }
  const programs = await Promise.all(Array.from({ length: INSTANCES }, () => startServer(env)))
  const report: CacheReport = { checks: 0, writes: 0, hits: 0, unmodified: 0, violations: [] }
  const documents = Array.from(
    { length: DOCUMENTS },
    (): Known => ({
      made: [{ n: 0, instance: undefined, deleted: true, acknowledgedAt: 0 }],
      busy: false,
      versions: new Map(),
    }),
  )
  const urlOf = (instance: number) => `${programs[instance]?.url}/api/v1/${COLLECTION}`
  const enough = () => report.checks >= checks || report.violations.length > 0

  /** Makes a write known before it is sent and when it is acknowledged. */
  const write = async (
    instance: number | undefined,
    which: readonly number[],
    deleted: boolean,
    send: (n: number) => Promise<void>,
  ) => {
    const n = ++report.writes
    const made: Made[] = which.map(() => ({ n, instance, deleted, acknowledgedAt: Number.POSITIVE_INFINITY }))
    for (const [place, index] of which.entries()) (documents[index] as Known).made.push(made[place] as Made)
    await send(n)
    for (const one of made) one.acknowledgedAt = performance.now()
    // What is older than everything that may still be answered is of no use.
    for (const index of which) {
      const known = documents[index] as Known
      if (known.made.length > 2000) known.made.splice(0, 1000)
    }
  }

  const writer = async (draw: Draw): Promise<void> => {
    while (!enough()) {
      const free = documents.flatMap(({ busy }, index) => (busy ? [] : [index]))
      const which = [...new Set(Array.from({ length: 1 + draw.below(3) }, () => draw.from(free)))]
      for (const index of which) (documents[index] as Known).busy = true
      try {
        await writeSome(draw, which)
      } finally {
        for (const index of which) (documents[index] as Known).busy = false
      }
      await new Promise((resolve) => setTimeout(resolve, draw.below(30)))
    }
  }

  const writeSome = async (draw: Draw, which: readonly number[]): Promise<void> => {
    const instance = draw.below(INSTANCES)
    const url = urlOf(instance)
    const [index = 0] = which
    const body = (n: number) => JSON.stringify({ n })
    if (draw.chance(0.15)) {
      return write(undefined, which, false, async (n) => {
        await pool.query(
          `INSERT INTO dualstore.documents AS d (collection, id, item, created_at, updated_at)
           SELECT $1, id, jsonb_build_object('id', id, 'n', $3::int), 0, 0 FROM unnest($2::text[]) AS id
           ON CONFLICT (collection, id) DO UPDATE SET item = d.item || jsonb_build_object('n', $3::int)`,
          [COLLECTION, which.map(idOf), n],
        )
      })
    }
    if (which.length > 1) {
      return write(instance, which, false, async (n) => {
        if (draw.chance(0.5)) {
          const operations = which.map((one) => ({ op: 'put', id: idOf(one), item: { n } }))
          return ok(await send(`${url}/batch`, 'POST', JSON.stringify({ operations })))
        }
        const lines = which.map((one) => JSON.stringify({ id: idOf(one), n })).join('\n')
        ok(await send(`${url}/import?on_conflict=replace`, 'POST', lines, 'application/x-ndjson'))
      })
    }
    const last = documents[index]?.made.at(-1)
    if (index >= STANDING && last?.deleted === false && draw.chance(0.4)) {
      return write(instance, which, true, async () => ok(await send(`${url}/${idOf(index)}`, 'DELETE')))
    }
    const method = last?.deleted === false && draw.chance(0.5) ? 'PATCH' : 'PUT'
    return write(instance, which, false, async (n) =>
      ok(await send(`${url}/${idOf(index)}`, method, body(n))),
    )
  }

  const reader = async (draw: Draw): Promise<void> => {
    while (!enough()) {
      const instance = draw.below(INSTANCES)
      // Some much more often than others.
      const index = Math.floor(draw.below(DOCUMENTS) * (draw.below(1000) / 1000))
      const known = documents[index] as Known
      const [etag] = index < STANDING && draw.chance(0.3) ? [...known.versions.keys()].slice(-1) : []
      const began = performance.now()
      const oldest = oldestAllowed(known.made, instance, began)
      const answer = await fetch(`${urlOf(instance)}/${idOf(index)}`, {
        headers: etag === undefined ? {} : { 'if-none-match': etag },
      })
      const text = await answer.text()
      report.checks++
      if (report.checks % 10_000 === 0) onProgress?.(report.checks)
      const fault = judge(known, answer, text, oldest)
      if (fault !== undefined) {
        report.violations.push(`instance ${instance}, ${idOf(index)}: ${fault} (${answer.status} ${text})`)
      }
      if (answer.status === 304) report.unmodified++
    }
  }

  try {
    ok(
      await send(
        `${programs[0]?.url}/api/v1/collections`,
        'POST',
        JSON.stringify({ name: COLLECTION, schema: { type: 'object' } }),
      ),
    )
    const all = Array.from({ length: DOCUMENTS }, (_, index) => index)
    await write(undefined, all, false, async (n) => {
      const operations = all.map((index) => ({ op: 'put', id: idOf(index), item: { n } }))
      ok(await send(`${urlOf(0)}/batch`, 'POST', JSON.stringify({ operations })))
    })
    await Promise.all([
      ...Array.from({ length: READERS }, (_, number) => reader(createDraw(seed * 1000 + number))),
      ...Array.from({ length: WRITERS }, (_, number) => writer(createDraw(seed * 1000 + 500 + number))),
    ])
    for (const { url } of programs) {
      const metrics = await (await fetch(`${url}/metrics`)).text()
      report.hits += Number(/^dualstore_cache_hits_total (\d+)/m.exec(metrics)?.[1])
    }
    return report
  } finally {
    await Promise.all(programs.map((program) => program.stop()))
  }
}

const idOf = (index: number) => `d${index}`

/** The oldest write that may be answered to a reading that begins now. */
function oldestAllowed(made: readonly Made[], instance: number, now: number): number {
  const last = made.findLast((one) => one.acknowledgedAt <= (one.instance === instance ? now : now - LAG_MS))
  return last?.n ?? 0
}

/** What is wrong with an answer. */
function judge(known: Known, answer: Response, text: string, oldest: number): string | undefined {
  const etag = answer.headers.get('etag') ?? ''
  if (answer.status === 404) {
    const gone = known.made.some(({ n, deleted }) => deleted && n >= oldest)
    return gone ? undefined : `is missing, though write ${oldest} had been acknowledged`
  }
  if (answer.status === 304) {
    const n = known.versions.get(etag) ?? -1
    return n >= oldest ? undefined : `unchanged since write ${n}, though ${oldest} had been acknowledged`
  }
  if (answer.status !== 200) return 'is not answered'
  const { n } = (JSON.parse(text) as { data: { n: number } }).data
  known.versions.set(etag, n)
  if (!known.made.some((one) => one.n === n && !one.deleted)) return `write ${n} was never made`
  return n >= oldest ? undefined : `write ${n}, though ${oldest} had been acknowledged`
}

interface Sent {
  status: number
  text: string
}

async function send(url: string, method: string, body?: string, type = 'application/json'): Promise<Sent> {
  const headers = body === undefined ? {} : { 'content-type': type }
  const answer = await fetch(url, { method, headers, ...(body !== undefined && { body }) })
  return { status: answer.status, text: await answer.text() }
}

/** Every write of the run must succeed: none of them meets another one of its documents. */
function ok({ status, text }: Sent): void {
  if (status >= 300 || /"status":[45]\d\d/.test(text)) throw new Error(`${status} ${text}`)
}

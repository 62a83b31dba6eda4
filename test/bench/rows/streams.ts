import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { type Process, startProcess } from '../channel.js'
import { post } from '../load.js'
import { markedLines, pace } from '../pace.js'
import { alone, compared, type Row } from '../report.js'
import { type Contestant, inRounds, percentile, type Sample, summarise, withCpu } from '../rounds.js'
import type { Stage } from '../stage.js'

const PATH = '/api/v1/stream/session_messages'
/** How much longer than the writing the receiving may take before what is missing is given up. */
const PATIENCE_MS = 5000
const RATES = [10, 50, 100, 1000]
/** From so many clients on there are fewer rounds, and their times have a target of their own. */
const MANY = 5000
const P99_MS = 250
/** Up to this rate there are targets. */
const MODERATE = 50
/** Events that are due in a second and not sent are kept by the counterpart, until its memory is full. */
const COUNTERPART_EVENTS = 2_000_000
/** A client's share of memory, in KiB. */
const MEMORY = 20
/** Sockets, and what a process has open beside them. */
const SPARE_FILES = 500
const STORM = { clients: 1000, events: 1000 }
const WRITTEN = { clients: 1000, events: 200 }
const SETTLED_MS = 3000

interface Delivery {
  received: number
  broken: number
  numbers: number[]
  times: number[]
}

/** Streams beside a broadcast written by hand: times, rates, memory, a storm of clients that come back. */
export async function streams(stage: Stage): Promise<Row[]> {
  const { databases } = stage
  const limits = { streamMaxConnections: 1_000_000, streamMaxConnectionsPerAddress: 1_000_000 }
  const processes: Process[] = []
  const started = async (script: string, argument: unknown = {}): Promise<Process> => {
    const process = await startProcess(script, argument)
    processes.push(process)
    return process
  }
  try {
    const ours = await started('dualstore', {
      databaseUrl: databases.unmirrored,
      dualWriteEnabled: false,
      ...limits,
    })
    const broadcast = await started('broadcast', { databaseUrl: databases.handwritten })
    const clients = await started('stream-clients')
    const sides = { ours, broadcast, clients }
    const rows: Row[] = []

    const files = await openFiles()
    const counts = stage.clients.filter((count) => count + SPARE_FILES <= files)
    if (counts.length < stage.clients.length)
      stage.say(`fewer clients than asked for: only ${files} files may be open`)
    // Memory first, while the processes are fresh.
    for (const count of counts) rows.push(await memory(stage, sides, count))
    for (const count of counts) {
      for (const rate of RATES) rows.push(await delivery(stage, sides, count, rate))
    }
    rows.push(await storm(stage, sides))
    rows.push(
      await writers(stage, clients, [
        await started('sse-writer', { writer: 'raw' }),
        await started('sse-writer', { writer: 'plugin' }),
      ]),
    )
    return rows
  } finally {
    for (const process of processes.reverse()) await process.stop()
  }
}

interface Sides {
  ours: Process
  broadcast: Process
  clients: Process
}

async function delivery(stage: Stage, sides: Sides, count: number, rate: number): Promise<Row> {
  const { clients } = sides
  stage.say(`streams: ${count} clients, ${rate} writes/s`)
  const seconds = Math.max(stage.seconds, 10 / rate)
  const contestant = (name: string, server: Process): Contestant => ({
    name,
    run: async () => {
      await clients.call('connect', { url: server.url, path: PATH, count, sampleEvery: count / 100 })
      await delay(500)
      return withCpu(server, () => deliver(server, clients, { count, rate, seconds }))
    },
    settle: async () => {
      await clients.call('disconnect')
      await delay(500)
    },
  })
  const comparable = count * rate <= COUNTERPART_EVENTS
  const [own, other] = await inRounds(
    [
      contestant('dualstore', sides.ours),
      ...(comparable ? [contestant('node:http broadcast', sides.broadcast)] : []),
    ],
    count < MANY ? stage.rounds : Math.min(stage.rounds, 3),
  )
  const what = `streams: ${number(count)} clients, ${number(rate)} writes/s`
  const unit = `of ${number(count * rate)} events/s`
  if (!comparable) return alone(what, unit, own)
  const row = compared(what, unit, own, other, rate <= MODERATE && count < MANY ? 'times' : undefined)
  return rate <= MODERATE && count >= MANY ? { ...row, ...alone(what, unit, own, { p99Below: P99_MS }) } : row
}

/** Writes at a rate and waits until every client has everything. */
async function deliver(
  server: Process,
  clients: Process,
  { count, rate, seconds }: { count: number; rate: number; seconds: number },
): Promise<Sample & { count: number }> {
  const total = Math.round(rate * seconds) * count
  await clients.call('begin', total)
  const began = performance.now()
  const { begun, milliseconds } = await pace(server.url, rate, seconds)
  const { received, broken, numbers, times } = await clients.call<Delivery>('settled', PATIENCE_MS)
  if (broken > 0) throw new Error(`${broken} streams of ${server.url} have ended`)
  const taken = Math.max(milliseconds, performance.now() - began)
  const lags = numbers.map((number, index) => (times[index] ?? 0) - (begun.get(number) ?? Number.NaN))
  return {
    count: received,
    rate: (received * 1000) / Math.max(taken, seconds * 1000),
    p50: percentile(lags, 0.5),
    p99: percentile(lags, 0.99),
  }
}

/** What a client that is sent nothing costs. */
async function memory(stage: Stage, { ours, broadcast, clients }: Sides, count: number): Promise<Row> {
  stage.say(`streams: memory of ${count} idle clients`)
  const perClient = async (server: Process): Promise<number> => {
    const before = await server.rss()
    await clients.call('connect', { url: server.url, path: PATH, count, sampleEvery: count })
    await delay(SETTLED_MS)
    const kib = ((await server.rss()) - before) * (1024 / count)
    await clients.call('disconnect')
    await delay(SETTLED_MS)
    return kib
  }
  const [own, other] = [await perClient(ours), await perClient(broadcast)]
  const what = `streams: memory of a client, ${number(count)} idle`
  const row = compared(
    what,
    'KiB',
    summarise('dualstore', [{ rate: own }]),
    summarise('node:http broadcast', [{ rate: other }]),
  )
  return count >= MANY ? { ...row, target: `≤ ${MEMORY}`, met: own <= MEMORY } : row
}

/** Many clients come back at once, each behind by the same events. */
async function storm(stage: Stage, { ours, clients }: Sides): Promise<Row> {
  stage.say('streams: resume storm')
  const { position } = (await (await fetch(`${ours.url}/api/v1/session_messages/changes`)).json()) as {
    position: string
  }
  await post(`${ours.url}/api/v1/session_messages/import`, 'application/x-ndjson', markedLines(STORM.events))
  const total = STORM.clients * STORM.events
  const samples: Sample[] = []
  for (let round = 0; round < stage.rounds; round++) {
    samples.push(
      await withCpu(ours, async () => {
        const path = `${PATH}?last_event_id=${position}`
        const asked = { url: ours.url, path, count: STORM.clients, total }
        const { milliseconds, received } = await clients.call<{ milliseconds: number; received: number }>(
          'storm',
          asked,
        )
        if (received < total) throw new Error(`${received} of ${total} events came`)
        return { count: received, rate: milliseconds }
      }),
    )
    await clients.call('disconnect')
    await delay(500)
  }
  const what = `streams: ${number(STORM.clients)} clients come back at once, ${number(STORM.events)} events behind`
  return alone(what, 'ms until all have caught up', summarise('dualstore', samples))
}

/** Whether the plugin or plain writes send the same events. */
async function writers(
  stage: Stage,
  clients: Process,
  [raw, plugin]: readonly [Process, Process],
): Promise<Row> {
  stage.say('streams: @fastify/sse beside plain writes')
  const total = WRITTEN.clients * WRITTEN.events
  const contestant = (name: string, server: Process): Contestant => ({
    name,
    run: async () => {
      await clients.call('connect', {
        url: server.url,
        path: '/events',
        count: WRITTEN.clients,
        sampleEvery: total,
      })
      return withCpu(server, async () => {
        await clients.call('begin', total)
        const began = performance.now()
        const sending = server.call('broadcast', WRITTEN.events)
        const { received } = await clients.call<Delivery>('settled', 60_000)
        await sending
        return { count: received, rate: (received * 1000) / (performance.now() - began) }
      })
    },
    settle: () => clients.call('disconnect'),
  })
  const [own, other] = await inRounds(
    [contestant('plain writes', raw), contestant('@fastify/sse', plugin)],
    stage.rounds,
  )
  return compared(`plain writes to ${number(WRITTEN.clients)} clients, no store`, 'events/s', own, other)
}

/** How many files this process, and so the processes it starts, may have open. */
async function openFiles(): Promise<number> {
  const limits = await readFile('/proc/self/limits', 'utf8').catch(() => '')
  // Node raises its own limit to the hard one.
  const hard = /Max open files\s+\S+\s+(\S+)/.exec(limits)?.[1]
  return hard === 'unlimited' || hard === undefined ? Number.POSITIVE_INFINITY : Number(hard)
}

const number = (value: number): string => value.toLocaleString('en')

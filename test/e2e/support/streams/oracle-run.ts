import { setTimeout as delay } from 'node:timers/promises'
import { readHead } from '../../../../src/server/changes/read.js'
import type { Pool } from '../../../../src/server/db/pool.js'
import { createDraw } from '../random.js'
import { type Disturbances, startCluster } from './cluster.js'
import { COLLECTIONS, CUSTOM, LATE, largeDocuments } from './documents.js'
import { describeInterest, randomInterest } from './interest.js'
import { compare, readLog } from './oracle.js'
import { startPollClient } from './poll-client.js'
import { type ClientTally, newTally, type RecordingClient, startStreamClient } from './stream-client.js'
import {
  createCollection,
  dropCollection,
  importAll,
  startWriters,
  type Writers,
  type WriteTally,
} from './writers.js'

export interface OracleRunOptions {
  seed: number
  databaseUrl: string
  pool: Pool
  instances: number
  /** Clients of streams, and clients that poll. */
  streams: number
  polls: number
  /** Ends when clients have received this many changes in all… */
  events: number
  /** …and the instances were disturbed this often. */
  disturbances: number
  /** Milliseconds from one disturbance to the next. */
  calmMs: number
  /** Called after each disturbance. */
  onProgress?(events: number, disturbances: number): void
}

export interface OracleReport extends Disturbances, ClientTally {
  seed: number
  seconds: number
  /** Changes in the log. */
  changes: number
  clients: number
  /** Changes that clients received, every one compared with the log. */
  events: number
  /** Snapshots and promises of completeness that were compared with the log. */
  snapshots: number
  claims: number
  writes: WriteTally
  /** Everything that contradicts the contract, the first of it; empty when all is well. */
  violations: string[]
}

/** How long the last clients may take to have everything, once nobody writes or disturbs any more. */
const SETTLE_MS = 60_000
/** Violations that are told; one defect can cause thousands. */
const SHOWN = 30

/**
 * A random history: writers of all kinds, instances that are killed, and clients that come and go. At the end the log
 * tells what each client must have been told (I7).
 */
export async function oracleRun(options: OracleRunOptions): Promise<OracleReport> {
  const { seed, pool } = options
  const began = performance.now()
  const draw = createDraw(seed)
  const faults: string[] = []
  const cluster = await startCluster({ ...options, draw: createDraw(seed + 1) })
  const tally = newTally()
  const clients: RecordingClient[] = []
  const onFault = (fault: string) => void faults.push(fault)
  const url = () => cluster.url(draw)
  const since = new Date()
  let writers: Writers | undefined
  try {
    await createCollection(url(), CUSTOM)
    for (const collection of COLLECTIONS) await importAll(url(), collection, largeDocuments(draw, collection))
    writers = startWriters({ seed, clients: 5, url: cluster.url, pool, onFault })
    const join = (single: boolean) => {
      const own = createDraw(seed * 1000 + 500 + clients.length)
      const interest = randomInterest(own, { single, since })
      const fault = (what: string) => onFault(`${describeInterest(interest)}: ${what}`)
      const start = single ? startPollClient : startStreamClient
      clients.push(start({ interest, draw: own, tally, url: () => cluster.url(own), onFault: fault }))
    }
    for (let left = options.polls; left > 0; left--) join(true)
    // Half of them come later, when there is something to be had from a snapshot.
    for (let left = options.streams >> 1; left > 0; left--) join(false)

    let late: 'to come' | 'here' | 'gone' = 'to come'
    const disturbed = () => Object.values(cluster.tally).reduce((sum, count) => sum + count, 0)
    while (received(clients) < options.events || disturbed() < options.disturbances) {
      await delay(options.calmMs)
      await cluster.disturb()
      options.onProgress?.(received(clients), disturbed())
      if (clients.length < options.streams + options.polls) join(false)
      // A collection that no client knew of when it came, and that goes again with its documents.
      if (late === 'to come') {
        late = 'here'
        await createCollection(url(), LATE)
      } else if (late === 'here' && disturbed() * 2 > options.disturbances) {
        late = 'gone'
        await dropCollection(url(), LATE).catch((error: Error) => onFault(error.message))
      }
    }
    while (clients.length < options.streams + options.polls) join(false)
    await writers.stop()

    const head = (await readHead(pool)).position
    const behind = new Set(clients)
    const settled = Promise.all(
      clients.map((client) => client.reached(head).then(() => behind.delete(client))),
    )
    await Promise.race([settled, delay(SETTLE_MS, undefined, { ref: false })])
    for (const { interest } of behind)
      faults.push(`${describeInterest(interest)}: has not everything in time`)
    await Promise.all(clients.map((client) => client.stop()))

    // Only now: a request whose client has given it up may be carried out still, and be told of.
    const log = await readLog(pool)
    const sum = { events: 0, snapshots: 0, claims: 0 }
    const violations = [...log.faults, ...faults, ...cluster.errors()]
    for (const [number, { interest, stretches }] of clients.entries()) {
      const result = compare({ name: `client ${number}`, interest, stretches }, log.entries)
      sum.events += result.events
      sum.snapshots += result.snapshots
      sum.claims += result.claims
      violations.push(...result.violations)
    }
    return {
      seed,
      seconds: Math.round((performance.now() - began) / 1000),
      changes: log.entries.length,
      clients: clients.length,
      ...cluster.tally,
      ...tally,
      ...sum,
      writes: writers.tally,
      violations:
        violations.length <= SHOWN
          ? violations
          : [...violations.slice(0, SHOWN), `… ${violations.length} in all`],
    }
  } finally {
    await writers?.stop()
    await Promise.all(clients.map((client) => client.stop()))
    await cluster.close()
  }
}

const received = (clients: readonly RecordingClient[]): number =>
  clients.reduce((sum, { stretches }) => sum + stretches.reduce((part, { told }) => part + told.length, 0), 0)

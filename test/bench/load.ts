import autocannon from 'autocannon'
import type { Process } from './channel.js'
import { percentile, type Sample, withCpu } from './rounds.js'

export interface Load {
  server: Process
  connections: number
  seconds: number
  /** Requests of one connection, taken in turn. Called for each connection. */
  requests(connection: number): autocannon.Request[]
  /** What one answered request counts for; 1 unless given. */
  worth?: number
}

/**
 * Puts load on a server and times each answer as a client sees it.
 * @throws when any answer is not 2xx: a benchmark of errors says nothing.
 */
export async function load(load: Load): Promise<Sample> {
  return withCpu(load.server, () => measure(load))
}

async function measure({ server, connections, seconds, requests, worth = 1 }: Load) {
  const { url } = server
  const times: number[] = []
  let connection = 0
  let failed = 0
  let last = 0
  const started = performance.now()
  const options: autocannon.Options = {
    url,
    connections,
    duration: seconds,
    // Ends within this many milliseconds of its time, instead of a second.
    sampleInt: 100,
    setupClient: (client) => client.setRequests(requests(connection++)),
  }
  const result = await new Promise<autocannon.Result>((resolve, reject) => {
    const instance = autocannon(options, (error, done) => (error ? reject(error) : resolve(done)))
    instance.on('response', (_client, status, _bytes, time) => {
      last = performance.now()
      if (status >= 200 && status < 300) times.push(time)
      else failed++
    })
  })
  if (failed + result.errors + result.timeouts > 0) {
    throw new Error(
      `${url}: ${failed} answers were not 2xx, ${result.errors} errors, ${result.timeouts} timeouts`,
    )
  }
  return {
    count: times.length * worth,
    rate: (times.length * worth * 1000) / (last - started),
    p50: percentile(times, 0.5),
    p99: percentile(times, 0.99),
  }
}

/** Sends one body and waits for the answer. @throws when it is not 2xx. */
export async function post(url: string, type: string, body: string): Promise<unknown> {
  const answer = await fetch(url, { method: 'POST', headers: { 'content-type': type }, body })
  const text = await answer.text()
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}: ${text.slice(0, 300)}`)
  return JSON.parse(text)
}

import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, expect, test } from 'vitest'
import { percentile } from '../bench/rounds.js'
import { testDatabase } from '../support/database.js'
import { dataDirectory } from '../support/directory.js'
import { startProxy } from '../support/proxy.js'
import { startServer } from '../support/serve.js'
import { Connection, type LoadAnswer } from './support/load/connection.js'

// npm run test:overload. SECONDS is how long the overload lasts, TIMES how many times the capacity is asked for, and
// REFUSED_MS what 99 of 100 refusals may take; the clients' own work on the same processors is in it. What bounds the
// server is once the processors, which the clients share, so that they may not get to ask for so much, and once a
// PostgreSQL that is far away: then they do.
const seconds = Number(process.env.SECONDS ?? 20)
const times = Number(process.env.TIMES ?? 3)
const WARM_SECONDS = 10
const CAPACITY_SECONDS = 5
const refusedMs = Number(process.env.REFUSED_MS ?? 1000)
/** Enough for statements that are full, and too few to be refused. */
const CAPACITY_CLIENTS = 900
/** Connections that may wait for an answer at once. */
const MAX_CLIENTS = 3000
const CONNECTING_AT_ONCE = 100
const TICK_MS = 10
const PATH = '/api/v1/session_messages'
const reports: Record<string, Record<string, string | number>> = {}

test.each([
  { bound: 'the processors', delayMs: 0 },
  { bound: 'a store far away', delayMs: Number(process.env.STORE_DELAY_MS ?? 250) },
])(
  `${times} times what $bound can take is refused quickly, and loses nothing`,
  async ({ bound, delayMs }) => {
    const report: Record<string, string | number> = {}
    reports[bound] = report
    const { url, pool } = await testDatabase()
    const proxy = await startProxy(url)
    proxy.slow(delayMs)
    const server = await startServer({
      DATABASE_URL: delayMs > 0 ? proxy.through(url) : url,
      DUALSTORE_DATA_DIR: await dataDirectory(),
      DUALSTORE_MAX_WAITING_WRITES: '1000',
    })
    const idle: Connection[] = []
    const acknowledged: string[] = []
    const answers: LoadAnswer[] = []
    let open = 0
    let number = 0
    let unsent = 0
    const broken: string[] = []

    const post = async (connection: Connection): Promise<LoadAnswer> => {
      const id = `over-${number++}`
      const body = JSON.stringify({ id, session_id: 'ses_1', role: 'user', content: 'x'.repeat(400) })
      const answer = await connection.send('POST', PATH, body)
      if (answer.status === 201) acknowledged.push(id)
      return answer
    }
    /** Sends one, whatever became of those before: this client does not wait. */
    const fire = () => {
      const used = idle.pop()
      if (used === undefined) {
        unsent++
        return
      }
      post(used).then(
        (answer) => {
          answers.push(answer)
          idle.push(used)
        },
        (error: Error) => {
          broken.push(error.message)
          open--
        },
      )
    }

    try {
      // Code is compiled and connections are opened before anything is measured.
      const from = performance.now() + WARM_SECONDS * 1000
      const until = from + CAPACITY_SECONDS * 1000
      let taken = 0
      await Promise.all(
        Array.from({ length: CAPACITY_CLIENTS }, async () => {
          const connection = new Connection(server.url)
          while (performance.now() < until) {
            expect((await post(connection)).status).toBe(201)
            if (performance.now() > from) taken++
          }
          connection.close()
        }),
      )
      const capacity = taken / CAPACITY_SECONDS

      // All are connected before: what is measured is how requests are refused.
      for (; open < MAX_CLIENTS; open += CONNECTING_AT_ONCE) {
        const wave = Array.from({ length: CONNECTING_AT_ONCE }, () => new Connection(server.url))
        await Promise.all(wave.map((connection) => connection.send('GET', '/health/live')))
        idle.push(...wave)
      }

      const began = performance.now()
      let sent = 0
      while (performance.now() - began < seconds * 1000) {
        const due = Math.floor(((performance.now() - began) / 1000) * capacity * times)
        for (; sent < due; sent++) fire()
        await delay(TICK_MS)
      }
      const ended = performance.now()
      const settled = () => idle.length === open
      while (!settled()) await delay(1)
      const drained = performance.now() - ended
      // The first request behind it, on a fresh connection.
      const next = new Connection(server.url)
      const first = await post(next)
      next.close()

      const refused = answers.filter(({ status }) => status === 503)
      const taken503 = refused.map(({ ms }) => ms)
      report['capacity, writes/s'] = Math.round(capacity)
      report['offered, writes/s'] = Math.round((sent - unsent) / seconds)
      report['offered, times the capacity'] = Number(((sent - unsent) / seconds / capacity).toFixed(2))
      report['taken, writes/s'] = Math.round((answers.length - refused.length) / seconds)
      report['refused, p50 and p99 ms'] = [0.5, 0.99]
        .map((share) => Math.round(percentile(taken503, share)))
        .join(', ')
      report['not sent: every client waited'] = unsent
      report['until all were answered, ms'] = Math.round(drained)
      report['next request: status, ms'] = `${first.status}, ${Math.round(first.ms)}`

      expect(broken).toEqual([])
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201, 503]))
      for (const { head, body } of refused) {
        expect(head).toMatch(/\r\nretry-after: \d+/i)
        expect(JSON.parse(body)).toMatchObject({ success: false, code: 'OVERLOADED' })
      }
      expect(percentile(taken503, 0.99)).toBeLessThan(refusedMs)
      expect(first.status, first.body).toBe(201)
      const { rows } = await pool.query<{ id: string }>(
        `SELECT id FROM dualstore.documents WHERE collection = 'session_messages'`,
      )
      const stored = new Set(rows.map(({ id }) => id))
      expect(acknowledged.filter((id) => !stored.has(id))).toEqual([])
      expect(acknowledged.length).toBeGreaterThan(taken)
    } finally {
      for (const connection of idle) connection.close()
      await server.kill9()
      await proxy.close()
    }
  },
)

afterAll(() => console.table(reports))

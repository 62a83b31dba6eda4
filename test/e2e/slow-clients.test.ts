import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { testDatabase } from '../support/database.js'
import { openStream, type TestStream } from '../support/event-stream.js'
import { residentMb } from '../support/resident.js'
import { startServer } from '../support/serve.js'

const SLOW = 6
const FAST = 4
/** What is written while the slow ones do not read: far more than the sockets of a client can hold. */
const DOCUMENTS = 400
const BYTES = 100_000
/** What the server may need more while that goes through it; kept for each slow client it were six times as much. */
const GROWTH_MB = 130

test('clients that do not read cost bounded memory, hold nobody up, and lose nothing', {
  timeout: 120_000,
}, async () => {
  const { url: databaseUrl, pool } = await testDatabase()
  const server = await startServer({
    DATABASE_URL: databaseUrl,
    DUAL_WRITE_ENABLED: 'false',
    SSE_HEARTBEAT_INTERVAL: '500',
  })
  try {
    const write = (from: number, count: number) => importDocuments(server.url, from, count)
    const stream = async (n: number): Promise<TestStream> => {
      // Another filter each, so that nothing that is made for one of them could serve another.
      const filter = encodeURIComponent(JSON.stringify({ agent_id: { $ne: `nobody ${n}` } }))
      const opened = await openStream(`${server.url}/api/v1/stream/agent_tasks?filter=${filter}`)
      await opened.until(({ data }) => data.type === 'ready')
      return opened
    }
    const slow = await Promise.all(Array.from({ length: SLOW }, (_, number) => stream(number)))
    const fast = await Promise.all(Array.from({ length: FAST }, (_, number) => stream(SLOW + number)))
    // Everybody reads at first: what the server needs for this load anyway is not counted as growth.
    await write(0, DOCUMENTS / 4)
    await Promise.all([...slow, ...fast].map((one) => received(one, DOCUMENTS / 4)))
    const before = await residentMb(server.pid)

    for (const one of slow) one.pause()
    let most = 0
    const watching = setInterval(async () => {
      most = Math.max(most, await residentMb(server.pid))
    }, 50)
    try {
      await write(DOCUMENTS / 4, DOCUMENTS)
      await Promise.all(fast.map((one) => received(one, DOCUMENTS * 1.25)))
    } finally {
      clearInterval(watching)
    }
    for (const one of slow) expect(one.changes().length).toBeLessThan(DOCUMENTS * 1.25)
    expect(most - before).toBeLessThan(GROWTH_MB)

    for (const one of slow) one.resume()
    await Promise.all(slow.map((one) => received(one, DOCUMENTS * 1.25)))
    // A repetition behind the end would come before what is written now.
    await write(DOCUMENTS * 1.25, 1)
    await Promise.all([...slow, ...fast].map((one) => received(one, DOCUMENTS * 1.25 + 1)))
    const { rows } = await pool.query<{ id: string }>('SELECT id FROM dualstore.changes ORDER BY seq')
    expect(rows).toHaveLength(DOCUMENTS * 1.25 + 1)
    for (const one of [...slow, ...fast]) {
      expect(one.changes().map(({ data }) => data.data.id)).toEqual(rows.map(({ id }) => id))
      one.close()
    }
    console.info(`server: ${before} MB before, at most ${most} MB with ${SLOW} clients that do not read`)
  } finally {
    await server.stop()
  }
})

const idOf = (number: number) => `t${number.toString().padStart(6, '0')}`

async function importDocuments(url: string, from: number, count: number): Promise<void> {
  const lines = Array.from({ length: count }, (_, index) =>
    JSON.stringify({
      id: idOf(from + index),
      session_id: 's',
      agent_id: 'a',
      task_type: 't',
      status: 'pending',
      input_data: { text: 'x'.repeat(BYTES) },
    }),
  )
  // In parts, as they would come from many requests.
  for (let at = 0; at < lines.length; at += 10) {
    const answer = await fetch(`${url}/api/v1/agent_tasks/import`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson', connection: 'close' },
      body: lines.slice(at, at + 10).join('\n'),
    })
    expect(await answer.json()).toMatchObject({ success: true })
  }
}

async function received(stream: TestStream, count: number): Promise<void> {
  for (const deadline = Date.now() + 60_000; stream.changes().length < count; await delay(20)) {
    if (Date.now() > deadline) throw new Error(`${stream.changes().length} of ${count} changes have come`)
  }
}

import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { startProcess } from '../channel.js'
import { alone, type Row } from '../report.js'
import { summarise } from '../rounds.js'
import type { Stage } from '../stage.js'

const run = promisify(execFile)
const PROGRAM = fileURLToPath(new URL('../../../bin/dualstore.js', import.meta.url))

/** What the server takes to start and to hold in memory. */
export async function footprint(stage: Stage): Promise<Row[]> {
  stage.say('start and memory')
  const rows = [
    alone('start to the first 200, existing embedded cluster', 'ms', await starts(stage.rounds), {
      below: 1000,
    }),
  ]
  if (existsSync(PROGRAM)) {
    const times = await timed(stage.rounds, () => run(process.execPath, [PROGRAM, '--help']))
    rows.push(alone('--help', 'ms', times, { below: 150 }))
  }
  const memory = (rate: number) => summarise('dualstore', [{ rate }])
  rows.push(
    alone('resident memory, idle', 'MiB', memory(stage.idleRss), { below: 110 }),
    alone('resident memory, after the load above', 'MiB', memory(await stage.server.rss()), { below: 200 }),
  )
  return rows
}

/** Starts on a cluster that exists and was shut down cleanly: PostgreSQL, stores and the server, up to an answer. */
async function starts(rounds: number) {
  const dataDir = join(tmpdir(), `dualstore-bench-start-${randomBytes(4).toString('hex')}`)
  try {
    const once = async () => {
      const started = await startProcess('dualstore', { dataDir })
      const answer = await fetch(`${started.url}/health`, { headers: { connection: 'close' } })
      await answer.arrayBuffer()
      if (!answer.ok) throw new Error(`/health answered ${answer.status}`)
      return started
    }
    await (await once()).stop()
    let running: Awaited<ReturnType<typeof once>> | undefined
    return await timed(
      rounds,
      async () => {
        running = await once()
      },
      async () => running?.stop(),
    )
  } finally {
    await rm(dataDir, { recursive: true, force: true })
  }
}

async function timed(
  rounds: number,
  work: () => Promise<unknown>,
  after: () => Promise<unknown> = async () => {},
) {
  const samples: { rate: number }[] = []
  for (let round = 0; round < rounds; round++) {
    const started = performance.now()
    await work()
    samples.push({ rate: performance.now() - started })
    await after()
  }
  return summarise('dualstore', samples)
}

import { writeFile } from 'node:fs/promises'
import { afterAll, expect, test } from 'vitest'
import { testDatabase } from '../support/database.js'
import { dataDirectory } from '../support/directory.js'
import { startServer } from '../support/serve.js'
import { mixedLoad } from './support/load/mixed.js'
import { plotted } from './support/load/plot.js'
import { growthAnHour, type Sample, sampled } from './support/load/samples.js'

// npm run test:soak. MINUTES, RATE (requests a second) and CLIENTS change it; PLOT is where the curves go.
const minutes = Number(process.env.MINUTES ?? 30)
const rate = Number(process.env.RATE ?? 300)
const clients = Number(process.env.CLIENTS ?? 32)
const plot = process.env.PLOT ?? 'docs/soak.svg'
const SAMPLES = 360
/** Caches fill and code is compiled in the beginning, which is no leak. */
const WARM_SHARE = 1 / 3
/** What may be growth by chance: a collection that has just been or is just about to be. */
const MAX_GROWTH_MB = 15
const report: Record<string, unknown> = {}

test(`memory, handles and the event loop stay as they are for ${minutes} minutes`, async () => {
  const { url } = await testDatabase()
  const server = await startServer({ DATABASE_URL: url, DUALSTORE_DATA_DIR: await dataDirectory() })
  try {
    const signal = AbortSignal.timeout(minutes * 60_000)
    const everyMs = Math.max(500, (minutes * 60_000) / SAMPLES)
    const [samples, { statuses }] = await Promise.all([
      sampled(server, everyMs, signal),
      mixedLoad({ url: server.url, clients, rate, signal }),
    ])
    await writeFile(plot, plotOf(samples))
    const warm = samples.slice(Math.floor(samples.length * WARM_SHARE))
    const hours = (warm.at(-1)!.at - warm[0]!.at) / 3600
    const grown = (member: keyof Sample) => growthAnHour(warm, member) * hours
    report.answers = JSON.stringify(statuses)
    for (const member of ['residentMb', 'heapMb', 'handles', 'delayMs'] as const)
      report[member] =
        `${warm[0]![member].toFixed(1)} → ${warm.at(-1)![member].toFixed(1)}, trend ${grown(member).toFixed(2)}`
    expect(Object.keys(statuses).toSorted()).toEqual(['200', '201'])
    expect(grown('residentMb')).toBeLessThan(MAX_GROWTH_MB)
    expect(grown('heapMb')).toBeLessThan(MAX_GROWTH_MB)
    expect(grown('handles')).toBeLessThan(3)
    expect((await server.stop()).code).toBe(0)
  } finally {
    await server.kill9()
  }
})

afterAll(() => console.table(report))

function plotOf(samples: readonly Sample[]): string {
  const curve = (label: string, unit: string, member: keyof Sample) => ({
    label,
    unit,
    values: samples.map((sample) => sample[member]),
  })
  return plotted(
    `Soak: ${rate} requests/s of ${clients} clients for ${minutes} minutes, Node ${process.version}`,
    samples.map(({ at }) => at),
    [
      curve('resident memory', 'MiB', 'residentMb'),
      curve('heap in use', 'MiB', 'heapMb'),
      curve('open files and sockets', 'number', 'handles'),
      curve('event loop delay, p99', 'ms', 'delayMs'),
    ],
  )
}

import { readdir } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { parseMetrics } from '../../../support/metrics.js'
import type { Program } from '../../../support/process.js'

/** How a server is at a moment. */
export interface Sample {
  /** Seconds since the first sample. */
  at: number
  residentMb: number
  heapMb: number
  /** Open files and sockets. */
  handles: number
  /** The 99th percentile since the sample before, milliseconds. */
  delayMs: number
}

/** Samples a server until the signal comes. Linux only, as it counts /proc's files. */
export async function sampled(server: Program, everyMs: number, signal: AbortSignal): Promise<Sample[]> {
  const samples: Sample[] = []
  const began = performance.now()
  while (!signal.aborted) {
    const answer = await fetch(`${server.url}/metrics`, { headers: { connection: 'close' } })
    const metrics = parseMetrics(await answer.text())
    const value = (name: string) => metrics.get(name) ?? Number.NaN
    samples.push({
      at: (performance.now() - began) / 1000,
      residentMb: value('process_resident_memory_bytes') / 2 ** 20,
      heapMb: value('nodejs_heap_used_bytes') / 2 ** 20,
      handles: (await readdir(`/proc/${server.pid}/fd`)).length,
      delayMs: value('dualstore_event_loop_delay_seconds{quantile="0.99"}') * 1000,
    })
    await delay(everyMs, undefined, { signal }).catch(() => {})
  }
  return samples
}

/** What a member grows by in an hour, by the line through its samples that fits best (least squares). */
export function growthAnHour(samples: readonly Sample[], member: keyof Sample): number {
  const mean = (of: keyof Sample) => samples.reduce((sum, sample) => sum + sample[of], 0) / samples.length
  const [meanAt, meanValue] = [mean('at'), mean(member)]
  let above = 0
  let below = 0
  for (const sample of samples) {
    above += (sample.at - meanAt) * (sample[member] - meanValue)
    below += (sample.at - meanAt) ** 2
  }
  return below === 0 ? 0 : (above / below) * 3600
}

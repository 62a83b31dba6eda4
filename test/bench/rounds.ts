/** One measured stretch of one contestant. Rates per second, times in milliseconds. */
export interface Sample {
  rate: number
  p50?: number
  p99?: number
  /** CPU time of the server process in µs for one of what the rate counts; PostgreSQL's own is not in it. */
  cpu?: number
}

export interface Contestant {
  name: string
  run(): Promise<Sample>
  /** Lets what the run has set in motion come to rest, outside the measurement, so that it disturbs nobody else. */
  settle?(): Promise<void>
}

/** Medians over the rounds. */
export interface Summary extends Sample {
  name: string
  samples: readonly Sample[]
}

/**
 * Runs every contestant once a round, each round in another order, after a run that is not counted. What disturbs the
 * machine for longer than a run then meets all of them alike.
 */
export async function inRounds(contestants: readonly Contestant[], rounds: number): Promise<Summary[]> {
  const samples = contestants.map((): Sample[] => [])
  for (let round = -1; round < rounds; round++) {
    for (let place = 0; place < contestants.length; place++) {
      const index = (place + Math.max(round, 0)) % contestants.length
      const contestant = contestants[index] as Contestant
      const sample = await contestant.run()
      await contestant.settle?.()
      if (round >= 0) samples[index]?.push(sample)
    }
  }
  return contestants.map(({ name }, index) => summarise(name, samples[index] ?? []))
}

export function summarise(name: string, samples: readonly Sample[]): Summary {
  const of = (key: 'p50' | 'p99' | 'cpu') => {
    const values = samples.flatMap((sample) => sample[key] ?? [])
    return values.length === 0 ? {} : { [key]: median(values) }
  }
  return {
    name,
    samples,
    rate: median(samples.map(({ rate }) => rate)),
    ...of('p50'),
    ...of('p99'),
    ...of('cpu'),
  }
}

/** Median of the rounds' own ratios: a slow round slows both sides of it. */
export function ratio(ours: Summary, other: Summary): number {
  return median(ours.samples.map(({ rate }, round) => rate / (other.samples[round]?.rate ?? Number.NaN)))
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((one, other) => one - other)
  const middle = sorted.length / 2
  const [low, high] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]]
  return ((low ?? Number.NaN) + (high ?? Number.NaN)) / 2
}

/** The value that `share` (0 to 1) of the values do not exceed. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((one, other) => one - other)
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN
}

/** Runs `work` and adds to its sample what the process that served it has spent on each. */
export async function withCpu(
  server: { cpu(): Promise<number> },
  work: () => Promise<Sample & { count: number }>,
): Promise<Sample> {
  const before = await server.cpu()
  const { count, ...sample } = await work()
  return { ...sample, cpu: ((await server.cpu()) - before) / count }
}

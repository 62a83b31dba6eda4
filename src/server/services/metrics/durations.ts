import type { Metric, Registry } from 'prom-client'

/** Notes that a request of one route was answered. */
export type Answered = (status: number, seconds: number) => void

const NAME = 'dualstore_http_request_duration_seconds'
/** Upper bounds, seconds. */
const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

interface Series {
  labels: Record<string, string>
  /** Requests by bucket, not cumulative; the last is for all that took longer. */
  counts: number[]
  sum: number
  count: number
}

/**
 * A histogram of requests. prom-client's own checks and hashes its labels with every observation, which costs 1 to 2 µs;
 * this one, bound to its route, adds to three numbers. What is printed is the same.
 */
export function createDurations(registry: Registry): (method: string, route: string) => Answered {
  const all: Series[] = []
  const metric = {
    name: NAME,
    get: async () => ({
      name: NAME,
      help: 'Time to answer requests, by route pattern and status; its count is the number of requests.',
      type: 'histogram',
      aggregator: 'sum',
      values: all.flatMap(valuesOf),
    }),
    reset() {},
  }
  registry.registerMetric(metric as unknown as Metric)

  return (method, route) => {
    const byStatus: (Series | undefined)[] = []
    return (status, seconds) => {
      let series = byStatus[status]
      if (series === undefined) {
        const labels = { method, route, status: String(status) }
        series = { labels, counts: [...BUCKETS, 0].fill(0), sum: 0, count: 0 }
        byStatus[status] = series
        all.push(series)
      }
      let bucket = 0
      while (seconds > (BUCKETS[bucket] ?? Number.POSITIVE_INFINITY)) bucket++
      series.counts[bucket] = (series.counts[bucket] ?? 0) + 1
      series.sum += seconds
      series.count++
    }
  }
}

function valuesOf({ labels, counts, sum, count }: Series) {
  let upTo = 0
  const buckets = counts.map((inBucket, index) => {
    upTo += inBucket
    const le = String(BUCKETS[index] ?? '+Inf')
    return { metricName: `${NAME}_bucket`, labels: { ...labels, le }, value: upTo }
  })
  return [
    ...buckets,
    { metricName: `${NAME}_sum`, labels, value: sum },
    { metricName: `${NAME}_count`, labels, value: count },
  ]
}

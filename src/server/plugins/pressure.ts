import { getHeapStatistics } from 'node:v8'
import underPressure from '@fastify/under-pressure'
import type { FastifyInstance } from 'fastify'
import type { Config } from '../config/index.js'
import { DualstoreError } from '../errors.js'
import { isHealth } from './health-paths.js'

/** Long enough that no single pause, of the collector or of the whole machine, passes for too much work. */
const SAMPLE_MS = 5000

/** Refuses work with 503 while the event loop or the heap says that there is too much of it already. */
export async function registerPressure(app: FastifyInstance, config: Config): Promise<void> {
  const { maxEventLoopDelayMs, maxHeapPercent } = config
  await app.register(underPressure, {
    sampleInterval: SAMPLE_MS,
    // The plugin takes 0 for "do not look".
    maxEventLoopDelay: maxEventLoopDelayMs,
    maxHeapUsedBytes: (getHeapStatistics().heap_size_limit * maxHeapPercent) / 100,
    // Its own answer would tell neither code nor request, and it knows no routes that are always answered.
    pressureHandler: async (request, _reply, type, value) => {
      // Infinity stands for a time of which the plugin has no measurement, which busy loops have now and then.
      if (isHealth(request) || value === Number.POSITIVE_INFINITY) return
      request.log.warn({ type, value }, 'under pressure')
      throw new DualstoreError('OVERLOADED', 'this server has more to do than it can; try again')
    },
  })
}

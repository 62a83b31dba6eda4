import type { FastifyBaseLogger } from 'fastify'
import type { Redis } from 'ioredis'

export interface RedisOptions {
  url: string
  /** How long connecting or one command may take, in milliseconds. */
  timeoutMs: number
  log: FastifyBaseLogger
}

/** Longest pause between two attempts to connect. */
const MAX_PAUSE_MS = 5000

/**
 * A Redis that connects in the background and again when it was lost. Its commands fail at once while there is no
 * connection: nothing that asks it may have to wait for it. The driver is loaded only when there is a Redis to talk to.
 */
export async function openRedis({ url, timeoutMs, log }: RedisOptions): Promise<Redis> {
  const { Redis: Client } = await import('ioredis')
  const redis = new Client(url, {
    connectTimeout: Math.max(timeoutMs, 1000),
    commandTimeout: timeoutMs,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    retryStrategy: (attempt) => Math.min(attempt * 100, MAX_PAUSE_MS),
  })
  let lost = false
  // Each failed attempt is an event: said once, until there was a connection again.
  redis.on('error', (err) => {
    if (!lost) log.warn({ err }, 'Redis cannot be reached; each instance counts requests for itself')
    lost = true
  })
  redis.on('ready', () => {
    if (lost) log.info({}, 'Redis is back')
    lost = false
  })
  return redis
}

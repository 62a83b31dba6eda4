import type { FastifyInstance } from 'fastify'
import { expect } from 'vitest'
import { call } from './http.js'

/** The values of /metrics by name and labels, as they are printed: `dualstore_breaker_state{store="mirror"}`. */
export type Metrics = ReadonlyMap<string, number>

export async function readMetrics(
  app: FastifyInstance,
  headers: Record<string, string> = {},
): Promise<Metrics> {
  const answer = await call(app, 'GET', '/metrics', { headers })
  expect(answer.status, answer.text).toBe(200)
  return parseMetrics(answer.text)
}

export function parseMetrics(text: string): Metrics {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(
    lines.map((line) => {
      const at = line.lastIndexOf(' ')
      return [line.slice(0, at), Number(line.slice(at + 1))]
    }),
  )
}

/** Names without labels, and without what a histogram adds to its own. */
export function namesIn(metrics: Metrics): Set<string> {
  return new Set([...metrics.keys()].map((key) => key.replace(/\{.*$/, '')))
}

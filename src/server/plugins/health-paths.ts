import type { FastifyRequest } from 'fastify'

const paths: ReadonlySet<string | undefined> = new Set(['/health', '/health/live', '/health/ready'])

/** Whether a supervisor asks: it must be answered whatever limits say, or it would end a server that is only busy. */
export function isHealth(request: FastifyRequest): boolean {
  return paths.has(request.routeOptions.url)
}

import type { FastifyInstance, RouteOptions } from 'fastify'
import { DualstoreError } from '../errors.js'
import { type Right, rightOf } from '../services/rights.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What the route needs (services/rights.ts). */
    right?: Right
  }
}

/** What a route needs that a program added to the finished application, without telling what: the most. */
export const UNKNOWN_ROUTE: Right = { role: 'admin' }

/**
 * Gives every route its entry of the table of rights. Call it before the first route is registered, and what it
 * returns behind the last one.
 * @throws INTERNAL, from where a route is registered that the table does not have
 */
export function guardRoutes(app: FastifyInstance, openapiPath: string): () => void {
  let built = false
  app.addHook('onRoute', (route) => {
    const name = nameOf(route, openapiPath)
    const right = name === undefined ? undefined : rightOf(name)
    if (right === undefined && !built) {
      const known = name ?? 'without operationId'
      throw new DualstoreError(
        'INTERNAL',
        `${route.method} ${route.url} (${known}) is not in the table of rights`,
      )
    }
    route.config = { ...route.config, right: right ?? UNKNOWN_ROUTE }
  })
  return () => {
    built = true
  }
}

function nameOf({ method, url, schema }: RouteOptions, openapiPath: string): string | undefined {
  const { operationId } = (schema ?? {}) as { operationId?: string }
  if (operationId !== undefined) return operationId
  if (method === 'OPTIONS' && url === '*') return 'preflight'
  return url === openapiPath || url.startsWith(`${openapiPath}/`) ? 'docs' : undefined
}

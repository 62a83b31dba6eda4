import { createHash, timingSafeEqual } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Config } from '../config/index.js'
import { type Access, type Principal, unrestricted } from '../services/principal.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who calls and from where; set before any route runs. */
    access: Access
  }
}

/** What an operator must never be unsure about: whether anybody may call this server. */
export function authIsOn(config: Config): boolean {
  return config.authEnabled ?? config.authBearerToken !== undefined
}

/**
 * The legacy bearer token: one for everything, /health included, with the legacy answers (legacy contract, section 6).
 * /health/live stays open, so that a supervisor can tell a live process from a dead one.
 */
export function registerAuth(app: FastifyInstance, config: Config): void {
  app.decorateRequest('access')
  const allow = (principal: Principal) => async (request: FastifyRequest) => {
    request.access = { principal, address: request.ip }
  }
  const mayReadMetrics = metricsToken(config)
  if (!authIsOn(config)) {
    app.addHook('onRequest', allow(unrestricted('everyone')))
    app.addHook('onRequest', async (request, reply) => {
      if (mayReadMetrics(request) === false) return refuse(reply, 'invalid authorization header')
    })
    return
  }
  const token = digest(config.authBearerToken ?? '')
  app.log.warn({}, 'the single bearer token of the legacy server is in use')
  app.addHook('onRequest', async (request, reply) => {
    if (request.routeOptions.url === '/health/live' || mayReadMetrics(request)) return
    const { authorization } = request.headers
    if (authorization === undefined) return refuse(reply, 'missing authorization header')
    const given = bearer(authorization)
    if (given === undefined || !timingSafeEqual(digest(given), token)) {
      return refuse(reply, 'invalid authorization header')
    }
  })
  app.addHook('onRequest', allow(unrestricted('legacy')))
}

/**
 * Whether a request for /metrics has the token that is for them alone: a Prometheus need not have a key that opens
 * everything. undefined: another request, or there is no such token.
 */
function metricsToken(config: Config): (request: FastifyRequest) => boolean | undefined {
  if (config.metricsToken === undefined) return () => undefined
  const token = digest(config.metricsToken)
  return ({ routeOptions, headers }) =>
    routeOptions.url === '/metrics'
      ? timingSafeEqual(digest(bearer(headers.authorization) ?? ''), token)
      : undefined
}

function bearer(authorization: string | undefined): string | undefined {
  return /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
}

/** The legacy body, as text: a route's own schema of error answers knows other members and would refuse it. */
function refuse(reply: FastifyReply, error: string): FastifyReply {
  return reply.code(401).type('application/json; charset=utf-8').send(JSON.stringify({ error }))
}

/** Digests have one length, so that comparing them tells nothing about the token, its length included. */
function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { DualstoreError } from '../errors.js'
import type { AuthFailures } from '../services/auth-failures.js'
import { type Authenticator, invalidCredential, missingCredential } from '../services/authenticator.js'
import { type Access, type Principal, unrestricted } from '../services/principal.js'
import { type Right, requireRight, useOf } from '../services/rights.js'
import { countedAddress } from './address.js'
import { queryTokenOf } from './query-token.js'
import { UNKNOWN_ROUTE } from './rights.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who calls and from where; set before any route runs. */
    access: Access
  }
}

export interface AuthOptions {
  /** Off: everybody may do everything. */
  enabled: boolean
  /** The kinds of credentials, in this order. */
  authenticators: readonly Authenticator[]
  /** For what the query holds, on the routes that take a token there. */
  queryAuthenticator: Authenticator
  /** Takes a token that is for /metrics alone. With authentication off, /metrics then needs it all the same. */
  metricsAuthenticator?: Authenticator | undefined
  /** Answer 401 with the legacy server's body instead of the usual one. */
  legacyAnswers: boolean
  /** Slows down who guesses. */
  failures: AuthFailures
}

/** Whoever asks for what is open to all: nothing that needs rights is done in their name. */
const nobody: Principal = { ...unrestricted('everyone'), role: 'reader', scopes: { read: [], write: [] } }
/** A path without a route tells only those that it is none who could call one. */
const NO_ROUTE: Right = { role: 'reader' }

/** Finds out who calls, before anything else is looked at. */
export function registerAuth(app: FastifyInstance, options: AuthOptions): void {
  app.decorateRequest('access')
  if (!options.enabled) {
    const everyone = unrestricted('everyone')
    app.addHook('onRequest', (request, reply, done) => {
      requireNoForeignPage(request)
      request.access = { principal: everyone, address: request.ip }
      if (options.metricsAuthenticator === undefined || !isMetrics(request)) return done()
      authenticate(request, reply, { role: 'reader' }, { ...options, authenticators: [] }).then(
        () => done(),
        done,
      )
    })
    return
  }
  const { legacyAnswers } = options
  app.addHook('onRequest', async (request, reply) => {
    const right = rightFor(request)
    let principal: Principal
    try {
      principal = right === 'public' ? nobody : await authenticate(request, reply, right, options)
    } catch (error) {
      if (!(error instanceof DualstoreError) || error.code !== 'UNAUTHORIZED') throw error
      reply.header('www-authenticate', 'Bearer')
      if (!legacyAnswers) throw error
      return refuse(reply, error.error)
    }
    request.access = { principal, address: request.ip }
  })
}

/** Refuses what the table of rights does not give to who calls. Register behind registerAuth, when it is enabled. */
export function registerRights(app: FastifyInstance): void {
  app.addHook('onRequest', (request, _reply, done) => {
    requireRight(request.access.principal, rightFor(request), collectionOf(request))
    done()
  })
}

/**
 * Where nobody needs a key, any page that a browser on this machine has open could make itself one that lasts, so what
 * is for admins is not for pages of other origins, whatever CORS allows.
 * @throws FORBIDDEN
 */
function requireNoForeignPage(request: FastifyRequest): void {
  const { origin } = request.headers
  if (origin === undefined) return
  const right = rightFor(request)
  if (right === 'public' || right.role !== 'admin') return
  if (URL.canParse(origin) && new URL(origin).host === request.host) return
  throw new DualstoreError(
    'FORBIDDEN',
    'pages of other origins may not do this while authentication is off: set AUTH_ENABLED=true and send a key',
  )
}

function rightFor(request: FastifyRequest): Right {
  return request.is404 ? NO_ROUTE : (request.routeOptions.config.right ?? UNKNOWN_ROUTE)
}

/** @throws UNAUTHORIZED, TOO_MANY_REQUESTS, STORE_UNAVAILABLE */
async function authenticate(
  request: FastifyRequest,
  reply: FastifyReply,
  right: Right,
  options: AuthOptions,
): Promise<Principal> {
  const { failures } = options
  const queryToken = queryTokenOf(request)
  const text = queryToken ?? credentialOf(request)
  const address = countedAddress(request)
  const waitMs = failures.waitMs(address, text)
  if (waitMs > 0) {
    const seconds = Math.ceil(waitMs / 1000)
    reply.header('retry-after', seconds)
    throw new DualstoreError(
      'TOO_MANY_REQUESTS',
      `too many wrong keys have come from this address; try again in ${seconds} s`,
    )
  }
  try {
    const candidates =
      queryToken === undefined ? headerAuthenticators(request, options) : [options.queryAuthenticator]
    const authenticator = candidates.find((candidate) => candidate.accepts(text))
    if (authenticator === undefined) throw invalidCredential()
    const principal = await authenticator.authenticate(text, useOf(right))
    failures.succeeded(address, text)
    return principal
  } catch (error) {
    if (error instanceof DualstoreError && error.code === 'UNAUTHORIZED') failures.failed(address, text)
    throw error
  }
}

function headerAuthenticators(request: FastifyRequest, options: AuthOptions): readonly Authenticator[] {
  const { authenticators, metricsAuthenticator } = options
  if (metricsAuthenticator === undefined || !isMetrics(request)) return authenticators
  return [metricsAuthenticator, ...authenticators]
}

function isMetrics({ routeOptions }: FastifyRequest): boolean {
  return routeOptions.url === '/metrics'
}

/** What was sent as `authorization: Bearer` or, without that header, as `x-api-key`. @throws UNAUTHORIZED */
function credentialOf({ headers }: FastifyRequest): string {
  const { authorization, 'x-api-key': key } = headers
  if (authorization === undefined) {
    if (typeof key === 'string' && key !== '') return key
    throw missingCredential()
  }
  const [, text] = /^Bearer +(\S+)$/i.exec(authorization) ?? []
  if (text === undefined) throw invalidCredential('authorization must be "Bearer <key>"')
  return text
}

/** The collection that the path names. */
function collectionOf({ params }: FastifyRequest): string | undefined {
  const { collection, name } = (params ?? {}) as { collection?: string; name?: string }
  return collection ?? name
}

/** The legacy body, as text: a route's own schema of error answers knows other members and would refuse it. */
function refuse(reply: FastifyReply, error: string): FastifyReply {
  return reply.code(401).type('application/json; charset=utf-8').send(JSON.stringify({ error }))
}

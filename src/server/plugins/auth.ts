import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { DualstoreError } from '../errors.js'
import { type Authenticator, invalidCredential, missingCredential } from '../services/authenticator.js'
import { type Access, type Principal, unrestricted } from '../services/principal.js'
import { type Right, requireRight, useOf } from '../services/rights.js'
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
  /** Answer 401 with the legacy server's body instead of the usual one. */
  legacyAnswers: boolean
}

/** Whoever asks for what is open to all: nothing that needs rights is done in their name. */
const nobody: Principal = { ...unrestricted('everyone'), role: 'reader', scopes: { read: [], write: [] } }
/** A path without a route tells only those that it is none who could call one. */
const NO_ROUTE: Right = { role: 'reader' }

/** Finds out who calls, and refuses what the table of rights does not give them, before anything else is looked at. */
export function registerAuth(app: FastifyInstance, options: AuthOptions): void {
  app.decorateRequest('access')
  if (!options.enabled) {
    const everyone = unrestricted('everyone')
    app.addHook('onRequest', (request, _reply, done) => {
      request.access = { principal: everyone, address: request.ip }
      done()
    })
    return
  }
  const { authenticators, legacyAnswers } = options
  app.addHook('onRequest', async (request, reply) => {
    const right = request.is404 ? NO_ROUTE : (request.routeOptions.config.right ?? UNKNOWN_ROUTE)
    let principal: Principal
    try {
      principal = right === 'public' ? nobody : await authenticate(request, right, authenticators)
    } catch (error) {
      if (!(error instanceof DualstoreError) || error.code !== 'UNAUTHORIZED') throw error
      reply.header('www-authenticate', 'Bearer')
      if (!legacyAnswers) throw error
      return refuse(reply, error.error)
    }
    request.access = { principal, address: request.ip }
    requireRight(principal, right, collectionOf(request))
  })
}

async function authenticate(
  request: FastifyRequest,
  right: Right,
  authenticators: readonly Authenticator[],
): Promise<Principal> {
  const text = credentialOf(request)
  const authenticator = authenticators.find((candidate) => candidate.accepts(text))
  if (authenticator === undefined) throw invalidCredential()
  return authenticator.authenticate(text, useOf(right))
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

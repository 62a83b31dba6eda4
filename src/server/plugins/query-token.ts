import type { FastifyInstance, FastifyRequest } from 'fastify'
import { invalid } from '../errors.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route takes a token in its query: browsers open an EventSource without headers. */
    queryToken?: boolean
  }
}

/** The parameter that RFC 6750, section 2.3, has for it. */
const FIELD = 'access_token'

/** Refuses a token in the query wherever none is taken: it would stand in logs and histories for nothing. */
export function registerQueryTokens(app: FastifyInstance): void {
  app.addHook('onRequest', (request, _reply, done) => {
    queryTokenOf(request)
    done()
  })
}

/** The token in the query; undefined when there is none. @throws INVALID_REQUEST where it must not be */
export function queryTokenOf(request: FastifyRequest): string | undefined {
  const { [FIELD]: given } = (request.query ?? {}) as { [FIELD]?: unknown }
  if (given === undefined) return undefined
  const { headers, routeOptions } = request
  if (routeOptions.config.queryToken !== true) {
    throw invalid(`query.${FIELD}`, 'is only taken by streams: send "authorization: Bearer <token>"')
  }
  if (typeof given !== 'string') throw invalid(`query.${FIELD}`, 'must be given once')
  if (headers.authorization !== undefined || headers['x-api-key'] !== undefined) {
    throw invalid(`query.${FIELD}`, 'must not be sent beside a key or token in a header')
  }
  return given
}

/** A URL with the token in its query taken out, however the name of the parameter is encoded. */
export function withoutQueryToken(url: string | undefined): string | undefined {
  if (url === undefined) return undefined
  const at = url.indexOf('?')
  if (at < 0) return url
  const pairs = url
    .slice(at + 1)
    .split('&')
    .map((pair) => (nameOf(pair) === FIELD ? `${FIELD}=***` : pair))
  return `${url.slice(0, at)}?${pairs.join('&')}`
}

function nameOf(pair: string): string {
  const [name = ''] = pair.split('=', 1)
  try {
    return decodeURIComponent(name).trim().toLowerCase()
  } catch {
    return name.toLowerCase()
  }
}

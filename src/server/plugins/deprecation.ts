import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Config } from '../config/index.js'

/** Since when legacy-only forms have a successor: the first version of dualstore. */
const DEPRECATED_AT = Date.UTC(2026, 10, 1)

/**
 * Tells clients of legacy-only forms until when these work: `Deprecation` (RFC 9745), `Sunset` (RFC 8594) and, where
 * there is documentation, a link to it. Register behind registerAuth: who calls is part of it.
 */
export function registerDeprecation(app: FastifyInstance, config: Config): void {
  const { legacySunset, openapiEnabled, openapiPath } = config
  if (legacySunset === undefined) return
  const sunset = new Date(legacySunset)
  // Nothing is deprecated later than it ends.
  const since = Math.floor(Math.min(DEPRECATED_AT, sunset.getTime()) / 1000)
  const headers = {
    deprecation: `@${since}`,
    sunset: sunset.toUTCString(),
    ...(openapiEnabled && { link: `<${openapiPath}>; rel="deprecation"; type="text/html"` }),
  }
  app.addHook('onRequest', (request, reply, done) => {
    if (isLegacyOnly(request, config)) reply.headers(headers)
    done()
  })
}

/** The legacy token, the raw documents, and streams without event names; the rest of the legacy API stays. */
function isLegacyOnly(request: FastifyRequest, { apiPrefix, streamFormat }: Config): boolean {
  const { url } = request.routeOptions
  if (request.access.principal.id === 'legacy' || url === '/debug/dualstore-data') return true
  if (url !== `${apiPrefix}/stream` && url !== `${apiPrefix}/stream/:collection`) return false
  const { format = streamFormat } = request.query as { format?: string }
  return format === 'message'
}

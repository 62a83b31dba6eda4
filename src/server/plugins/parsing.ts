import { Ajv } from 'ajv'
import addFormats from 'ajv-formats'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { invalid } from '../errors.js'
import { JSON_PATCH, MERGE_PATCH } from '../schemas/media-types.js'
import { parseJson } from '../services/json.js'

/**
 * How requests are read. Bodies: JSON that is really UTF-8 (a lenient decoder would store U+FFFD in place of what was
 * sent) and without prototype keys. Query, path and headers are text and are converted; a body
 * says what it means and is not.
 */
export function registerParsing(app: FastifyInstance): void {
  app.removeContentTypeParser(['application/json', 'text/plain'])
  app.addContentTypeParser(
    ['application/json', MERGE_PATCH, JSON_PATCH],
    { parseAs: 'buffer' },
    // Clients that always say application/json delete without a body too.
    async (request: FastifyRequest, body: Buffer) =>
      body.length === 0 && request.method === 'DELETE' ? undefined : parseJson(body),
  )
  app.addHook('onRequest', (request, _reply, done) => {
    requireDecodable(request.raw.url ?? '')
    done()
  })

  const strict = withFormats(new Ajv({ discriminator: true, strict: false }))
  const converting = withFormats(new Ajv({ coerceTypes: true, useDefaults: true, strict: false }))
  app.setValidatorCompiler(({ schema, httpPart }) =>
    (httpPart === 'body' ? strict : converting).compile(schema as object),
  )
}

// The query parser takes what it cannot decode as it stands, and would look for a document called "%ff". The router
// refuses the same in a path.
function requireDecodable(url: string): void {
  const at = url.indexOf('?')
  if (at === -1 || !url.includes('%', at)) return
  try {
    decodeURIComponent(url.slice(at + 1))
  } catch {
    throw invalid('query', 'must be percent-encoded UTF-8')
  }
}

function withFormats(ajv: Ajv): Ajv {
  addFormats.default(ajv)
  return ajv
}

import { Ajv } from 'ajv'
import addFormats from 'ajv-formats'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { invalid } from '../errors.js'
import { JSON_PATCH, MERGE_PATCH } from '../schemas/media-types.js'
import { parseJson } from '../services/json.js'

export interface ParsingOptions {
  /** How long a request whose body has begun may send nothing, in milliseconds. */
  bodyIdleTimeoutMs: number
}

/**
 * How requests are read. Bodies: JSON that is really UTF-8 (a lenient decoder would store U+FFFD in place of what was
 * sent) and without prototype keys. Query, path and headers are text and are converted; a body
 * says what it means and is not.
 */
export function registerParsing(app: FastifyInstance, { bodyIdleTimeoutMs }: ParsingOptions): void {
  app.removeContentTypeParser(['application/json', 'text/plain'])
  app.addContentTypeParser(
    ['application/json', MERGE_PATCH, JSON_PATCH],
    { parseAs: 'buffer' },
    // Clients that always say application/json delete without a body too.
    async (request: FastifyRequest, body: Buffer) =>
      body.length === 0 && request.method === 'DELETE' ? undefined : parseJson(body),
  )
  app.addHook('onRequest', async (request) => requireDecodable(request.raw.url ?? ''))
  app.addHook('preParsing', (request, _reply, payload, done) => {
    endWhenIdle(request, bodyIdleTimeoutMs)
    done(null, payload)
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

/** Ends the connection of a client that stops in the middle of a body; without, it would be kept for ever. */
function endWhenIdle({ raw }: FastifyRequest, timeoutMs: number): void {
  if (raw.headers['content-length'] === undefined && raw.headers['transfer-encoding'] === undefined) return
  const { socket } = raw
  // Injected requests have no real socket.
  if (typeof socket?.setTimeout !== 'function') return
  const onIdle = () => raw.destroy(new Error('the body stopped'))
  socket.setTimeout(timeoutMs, onIdle)
  raw.once('close', () => {
    socket.setTimeout(0)
    socket.off('timeout', onIdle)
  })
}

function withFormats(ajv: Ajv): Ajv {
  addFormats.default(ajv)
  return ajv
}

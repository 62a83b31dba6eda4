import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { DualstoreError, type ErrorCode, type Fault } from '../errors.js'
import { withoutSecrets } from '../services/key-format.js'
import type { Reports } from '../telemetry/reports.js'

/** Fastify's own refusals in terms of the catalogue. Codes: Fastify, "Errors". */
const frameworkCodes: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'PAYLOAD_TOO_LARGE',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'UNSUPPORTED_MEDIA_TYPE',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'INVALID_JSON',
  FST_ERR_CTP_INVALID_JSON_BODY: 'INVALID_JSON',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'INVALID_REQUEST',
  // @fastify/compress: a body that cannot be expanded.
  FST_CP_ERR_INVALID_CONTENT: 'INVALID_REQUEST',
  FST_ERR_BAD_URL: 'INVALID_REQUEST',
  FST_ERR_MAX_PARAM_LENGTH: 'URI_TOO_LONG',
  FST_ERR_ASYNC_CONSTRAINT: 'INVALID_REQUEST',
}

export interface ErrorOptions {
  /** Tell callers the messages of a 500. */
  development: boolean
  /** Told of each answer with a 5xx. */
  report?: Reports['report'] | undefined
}

/** Every failure leaves through here: `{success: false, error, message, code, details?, requestId}`. */
export function registerErrors(app: FastifyInstance, options: ErrorOptions): void {
  app.setErrorHandler((error: FastifyError | Error, request, reply) =>
    sendError(error, request, reply, options),
  )
  app.setNotFoundHandler((request, reply) => {
    const message = `${request.method} ${request.url.split('?')[0]} is not a route of this server`
    return sendError(new DualstoreError('NOT_FOUND', message), request, reply, options)
  })
}

/** Answers with an error. What is not of the catalogue becomes INTERNAL: logged in full, told in no words of its own. */
export function sendError(
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  options: ErrorOptions,
): FastifyReply {
  const known = toKnown(error)
  // Whoever has too much to do must not spend its time on saying so: the line of the request is enough.
  if (known.status >= 500 && known.code !== 'OVERLOADED') {
    request.log.error({ err: error }, known.error)
    const { id: requestId, method, routeOptions } = request
    options.report?.(known, { requestId, method, route: routeOptions.url ?? 'none', status: known.status })
  }
  if (known.retryable) reply.header('retry-after', '1')
  return reply
    .code(known.status)
    .type('application/json; charset=utf-8')
    .send(withoutSecrets(JSON.stringify(errorBody(known, request.id, options))))
}

/** The body of an error answer; a 500 tells its message only in development (legacy contract, section 2). */
export function errorBody(
  error: DualstoreError,
  requestId: string,
  options: { development: boolean },
): object {
  const silent = error.status === 500 && !options.development
  return {
    success: false,
    error: error.error,
    ...(silent ? {} : { message: shortened(error.message, 4000) }),
    code: error.code,
    ...(error.details && { details: error.details.map(shortFault) }),
    ...error.extra,
    requestId,
  }
}

// Names of fields come from the client and may be as long as its request.
function shortFault({ field, message }: Fault): Fault {
  return { field: shortened(field, 300), message: shortened(message, 1000) }
}

function shortened(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length).toWellFormed()}…` : text
}

export function toKnown(error: unknown): DualstoreError {
  if (error instanceof DualstoreError) return error
  const { code, statusCode, validation, validationContext, message } = error as FastifyError
  if (validation !== undefined) {
    const details: Fault[] = validation.map((fault) => ({
      field: fieldOf(validationContext ?? 'request', fault),
      message: messageOf(fault),
    }))
    const text = details.map((fault) => `${fault.field} ${fault.message}`).join('; ')
    return new DualstoreError('INVALID_REQUEST', text, { details })
  }
  const mapped = frameworkCodes[code]
  // Messages about a URL quote it, and a query may hold a token.
  if (mapped !== undefined) return new DualstoreError(mapped, message.replace(/\?.*(?=')/s, ''))
  if (statusCode === 429) return new DualstoreError('TOO_MANY_REQUESTS', message)
  // A body that is not JSON, or holds __proto__ or constructor.prototype, is refused by Fastify's own parser.
  if (statusCode === 400) return new DualstoreError('INVALID_JSON', message)
  return new DualstoreError('INTERNAL', message ?? 'unknown error', { cause: error })
}

type Validation = NonNullable<FastifyError['validation']>[number]

const contexts: Readonly<Record<string, string>> = {
  querystring: 'query',
  headers: 'headers',
  params: 'params',
}

function fieldOf(context: string, fault: Validation): string {
  const path = fault.instancePath.split('/').slice(1)
  const missing = fault.params.missingProperty ?? fault.params.additionalProperty
  if (typeof missing === 'string') path.push(missing)
  return [contexts[context] ?? context, ...path].join('.')
}

function messageOf(fault: Validation): string {
  switch (fault.keyword) {
    case 'required':
      return 'is required'
    case 'additionalProperties':
      return 'is not allowed here'
    case 'enum':
      return `must be one of ${(fault.params.allowedValues as unknown[]).map(String).join(', ')}`
    case 'const':
      return `must be ${JSON.stringify(fault.params.allowedValue)}`
    default:
      return fault.message ?? 'is not valid'
  }
}

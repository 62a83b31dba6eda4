import type { FastifyReply } from 'fastify'
import type { TSchema } from 'typebox'
import { ErrorAnswer } from '../schemas/wire.js'
import type { WriteAnswer } from '../services/documents.js'
import type { Source } from '../services/fallback.js'
import { etagOf } from '../services/precondition.js'
import { successText } from '../services/success.js'

export const JSON_TYPE = 'application/json; charset=utf-8'

/**
 * A route's answers for the OpenAPI document and for serialising objects: the given ones and the errors. Their types
 * are let go on purpose, because documents are answered as the text PostgreSQL gave (I13).
 */
export function answers(successes: Readonly<Record<number, TSchema>>): Record<string, unknown> {
  return {
    ...successes,
    '4xx': errorAnswer('The request cannot be fulfilled as it is'),
    '5xx': errorAnswer('The server cannot fulfil the request now'),
  }
}

// The media type is told, because a route's own `produces` would otherwise stand for its errors too.
function errorAnswer(description: string): object {
  return { description, content: { 'application/json': { schema: ErrorAnswer } } }
}

/** Answers a written document with its ETag and the log position from which on it is visible everywhere. */
export function sendWritten(reply: FastifyReply, status: number, written: WriteAnswer): FastifyReply {
  sendPosition(reply, written.position)
  return reply
    .code(status)
    .header('etag', etagOf(written.version))
    .type(JSON_TYPE)
    .send(successText(written.text))
}

export function sendPosition(reply: FastifyReply, position: string | null): void {
  if (position !== null) reply.header('x-dualstore-position', position)
}

/** Says that the mirror has answered, and what it had applied at least by then. */
export function sendSource(reply: FastifyReply, { source, position }: Source): void {
  if (source === 'postgres') return
  reply.header('x-dualstore-source', source)
  sendPosition(reply, position)
}

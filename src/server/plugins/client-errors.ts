import { randomUUID } from 'node:crypto'
import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import { DualstoreError, type ErrorCode } from '../errors.js'
import { errorBody } from './errors.js'

/** What Node's HTTP parser reports before there is a request. */
const parserCodes: Readonly<Record<string, ErrorCode>> = {
  HPE_HEADER_OVERFLOW: 'HEADERS_TOO_LARGE',
  ERR_HTTP_REQUEST_TIMEOUT: 'REQUEST_TIMEOUT',
}

const messages: Partial<Record<ErrorCode, string>> = {
  HEADERS_TOO_LARGE: 'URL and headers are longer than DUALSTORE_HEADER_LIMIT_BYTES allows',
  REQUEST_TIMEOUT: 'the head of the request did not come in time',
}

/**
 * Answers what is not HTTP with the same error body as everything else, and closes the connection. Given to Fastify as
 * its clientErrorHandler: as a second listener it would come behind Fastify's own, which ends the socket.
 */
export function answerClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const code = parserCodes[error.code ?? ''] ?? 'INVALID_REQUEST'
  endWith(socket, new DualstoreError(code, messages[code] ?? 'the request cannot be read as HTTP'))
}

/** Answers on the bare socket, where no reply can be sent any more, and closes it. */
export function endWith(socket: Socket, known: DualstoreError): void {
  const body = JSON.stringify(errorBody(known, randomUUID(), { development: false }))
  socket.end(
    `HTTP/1.1 ${known.status} ${STATUS_CODES[known.status]}\r\nConnection: close\r\n` +
      `Content-Type: application/json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    // What the client still sends is not waited for.
    () => socket.destroy(),
  )
}

import type { FastifyRequest } from 'fastify'
import { withoutQueryToken } from './query-token.js'

/** What a request is in the log: no header at all, and no token of its query. */
export function loggedRequest({ method, url, host, ip, socket }: FastifyRequest): object {
  return { method, url: withoutQueryToken(url), host, remoteAddress: ip, remotePort: socket?.remotePort }
}

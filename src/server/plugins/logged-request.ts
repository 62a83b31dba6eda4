import type { FastifyRequest } from 'fastify'
import { withoutQueryToken } from './query-token.js'

/** What a request is in the log: no header at all, and no token of its query. Anything may be logged as a request. */
export function loggedRequest({ method, url, host, ip, socket }: Partial<FastifyRequest>): object {
  const shown = url === undefined ? undefined : withoutQueryToken(url)
  return { method, url: shown, host, remoteAddress: ip, remotePort: socket?.remotePort }
}

import { isIP } from 'node:net'
import { normalizeIP } from '@fastify/rate-limit'
import type { FastifyRequest, FastifyServerOptions } from 'fastify'
import type { Config } from '../config/index.js'

/**
 * Who is counted where nobody has said who calls. An IPv6 network (/64) counts as one, because whoever has one address
 * of it has all of them. What a trusted proxy gives that is no address counts as the proxy's.
 */
export function countedAddress(request: FastifyRequest): string {
  const address = isIP(request.ip) ? request.ip : request.socket.remoteAddress
  return address === undefined ? 'unknown' : normalizeIP(address)
}

/**
 * The setting as Fastify takes it. A number believes that many proxies in front, whoever they are: Fastify itself has
 * given that up, because whoever reaches the server past them can forge an address (docs/security.md says so).
 */
export function trustedProxies(
  setting: Config['trustProxy'],
): NonNullable<FastifyServerOptions['trustProxy']> {
  if (typeof setting === 'number') return (_address, hop) => hop < setting
  return typeof setting === 'boolean' ? setting : [...setting]
}

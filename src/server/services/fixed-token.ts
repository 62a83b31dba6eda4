import { createHash, timingSafeEqual } from 'node:crypto'
import type { Authenticator } from './authenticator.js'
import { type Principal, unrestricted } from './principal.js'

/** The one bearer token of the legacy server, which is for everything (legacy contract, section 6). */
export function createLegacyAuthenticator(token: string): Authenticator {
  return fixedToken(token, unrestricted('legacy'))
}

/** The token of whoever scrapes metrics: it is worth nothing anywhere else, so it needs no scopes. */
export function createMetricsAuthenticator(token: string): Authenticator {
  const scopes = { read: [], write: [] }
  return fixedToken(token, { ...unrestricted('legacy'), id: 'metrics', role: 'reader', scopes })
}

function fixedToken(token: string, principal: Principal): Authenticator {
  const expected = digest(token)
  return {
    // Compared here already: the token may look like anything, a key included.
    accepts: (text) => timingSafeEqual(digest(text), expected),
    authenticate: async () => principal,
  }
}

/** Digests have one length, so that comparing them tells nothing about the token, its length included. */
function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

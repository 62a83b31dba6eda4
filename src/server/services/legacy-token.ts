import { createHash, timingSafeEqual } from 'node:crypto'
import type { Authenticator } from './authenticator.js'
import { unrestricted } from './principal.js'

/** The one bearer token of the legacy server, which is for everything (legacy contract, section 6). */
export function createLegacyAuthenticator(token: string): Authenticator {
  const expected = digest(token)
  const principal = unrestricted('legacy')
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

import jwt, { type JWT } from '@fastify/jwt'
import type { FastifyInstance } from 'fastify'
import { expired, OWN_ALGORITHM, OWN_ISSUER, refused, type TokenCodec } from '../services/tokens.js'

/** Signs and verifies this server's own tokens with @fastify/jwt; which secret, the services say each time. */
export async function registerTokenCodec(
  app: FastifyInstance,
  { clockSkewMs }: { clockSkewMs: number },
): Promise<TokenCodec> {
  await app.register(jwt, {
    // Asked for by nobody: every call brings the secret that the token's header names.
    secret: () => Promise.reject(refused()),
    sign: { algorithm: OWN_ALGORITHM },
    verify: {
      algorithms: [OWN_ALGORITHM],
      allowedIss: OWN_ISSUER,
      allowedAud: OWN_ISSUER,
      requiredClaims: ['iss', 'aud', 'sub', 'exp', 'iat', 'jti'],
      clockTolerance: clockSkewMs,
    },
  })
  const { sign, verify } = app.jwt as JWT
  return {
    sign: (claims, { kid, secret }) => sign(claims, { key: secret, kid }),
    verify(token, { secret }) {
      try {
        return verify(token, { key: secret })
      } catch (error) {
        throw (error as { code?: unknown }).code === 'FAST_JWT_EXPIRED' ? expired() : refused()
      }
    },
  }
}

import jwt, { type JWT } from '@fastify/jwt'
import type { FastifyInstance } from 'fastify'
import type { Config } from '../config/index.js'
import {
  createTokenService,
  expired,
  OWN_ALGORITHM,
  OWN_ISSUER,
  refused,
  type TokenCodec,
  type TokenService,
  type TokenServiceOptions,
} from '../services/tokens.js'

/** What is always checked of a token: everything its reader may rely on is there, and signed with what we sign with. */
const VERIFY = {
  algorithms: [OWN_ALGORITHM as 'HS256'],
  allowedIss: OWN_ISSUER,
  allowedAud: OWN_ISSUER,
  requiredClaims: ['iss', 'aud', 'sub', 'exp', 'iat', 'jti'],
}

/** This server's own tokens, signed and verified by @fastify/jwt with the secrets that the services keep. */
export async function registerTokens(
  app: FastifyInstance,
  { tokenClockSkewMs: clockSkewMs, tokenLifetimeMs: lifetimeMs }: Config,
  options: Pick<TokenServiceOptions, 'secrets' | 'keys'>,
): Promise<TokenService> {
  await app.register(jwt, {
    // Never used: every call brings the secret that the token's header names.
    secret: async () => Promise.reject(refused()),
    sign: { algorithm: OWN_ALGORITHM },
    verify: { ...VERIFY, clockTolerance: clockSkewMs },
  })
  return createTokenService({ ...options, lifetimeMs, clockSkewMs, codec: codecOf(app.jwt as JWT) })
}

function codecOf({ sign, verify }: JWT): TokenCodec {
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

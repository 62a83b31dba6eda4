import { randomUUID } from 'node:crypto'
import type * as jose from 'jose'
import { LRUCache } from 'lru-cache'
import type * as typeboxValue from 'typebox/value'
import type { Pool } from '../db/pool.js'
import { DualstoreError, invalid } from '../errors.js'
import { parseFilter } from '../filter/parse.js'
import { printFilter } from '../filter/print.js'
import { type TokenAnswer, TokenClaims, type TokenRequest } from '../schemas/token.js'
import type { TokenSecret } from '../store/token-secrets.js'
import { recordAudit } from './audit.js'
import { type Authenticator, invalidCredential } from './authenticator.js'
import type { KeyService } from './keys.js'
import { lazily } from './lazy.js'
import type { Access, Principal } from './principal.js'
import { rightsOfToken } from './token-rights.js'
import { MAX_TOKEN_LIFETIME_MS, type TokenSecrets } from './token-secrets.js'

const value = lazily<typeof typeboxValue>('typebox/value')
const jwt = lazily<typeof jose>('jose')

/** In both, `iss` and `aud`: another deployment's tokens are told apart by their secrets. */
export const OWN_ISSUER = 'dualstore'
export const OWN_ALGORITHM = 'HS256'
/** Characters; a longer one is refused before anything of it is read. */
export const MAX_TOKEN_LENGTH = 8192
const STREAM_TOKEN_SECONDS = 60
/** Characters of tokens whose verification is remembered. */
const REMEMBERED = 4 * 1024 * 1024
const KID = /^[A-Za-z0-9_-]{8,64}$/

/** What a token is for: requests, or opening one stream. */
export type TokenUse = TokenClaims['use']

/** Signing and verifying, which the HTTP room brings along. */
export interface TokenCodec {
  sign(claims: TokenClaims, by: TokenSecret): string
  /** The claims of a token whose signature, issuer, audience and times are right. @throws UNAUTHORIZED */
  verify(token: string, by: TokenSecret): unknown
}

export interface TokenServiceOptions {
  pool: Pool
  secrets: TokenSecrets
  codec: TokenCodec
  keys: Pick<KeyService, 'ensure'>
  /** Of tokens that nobody asked another lifetime for, in milliseconds. */
  lifetimeMs: number
  clockSkewMs: number
  now?: () => number
}

export type TokenService = ReturnType<typeof createTokenService>

/** A token that was verified, and what may have changed since. */
interface Verified {
  principal: Principal
  kid: string
  use: TokenUse
  /** Epoch milliseconds, clock skew included. */
  worthlessAt: number
}

/** This server's own tokens: short, signed with HS256, with at most the rights of the credential that asked for them. */
export function createTokenService({
  pool,
  secrets,
  codec,
  keys,
  now = Date.now,
  ...options
}: TokenServiceOptions) {
  const { lifetimeMs, clockSkewMs } = options
  const verified = new LRUCache<string, Verified>({
    maxSize: REMEMBERED,
    sizeCalculation: (_value, token) => token.length,
  })
  const stands = ({ kid, worthlessAt }: Verified) => now() < worthlessAt && secrets.has(kid)

  const verify = async (token: string): Promise<Verified> => {
    if (token.length > MAX_TOKEN_LENGTH) throw refused()
    const { kid } = headerOf(token)
    const secret = KID.test(kid) ? await secrets.find(kid) : undefined
    if (secret === undefined) throw refused()
    const claims = codec.verify(token, secret)
    if (!value().Check(TokenClaims, claims)) throw refused()
    const { iat, exp, use } = claims
    if (iat * 1000 > now() + clockSkewMs || (exp - iat) * 1000 > MAX_TOKEN_LIFETIME_MS) throw refused()
    return { principal: principalOf(claims), kid, use, worthlessAt: exp * 1000 + clockSkewMs }
  }

  return {
    /**
     * Changes a credential for a token with the same rights or less, which lives no longer than the credential.
     * @throws FORBIDDEN when more is asked for, or when the credential is neither a key nor a token; INVALID_REQUEST,
     * INVALID_FILTER, UNAUTHORIZED when the credential expires this second, STORE_UNAVAILABLE
     */
    async issue(access: Access, wish: TokenRequest = {}): Promise<TokenAnswer> {
      const { principal } = access
      if (principal.kind !== 'key' && principal.kind !== 'token') {
        throw new DualstoreError('FORBIDDEN', 'only a key, or a token, can be changed for a token')
      }
      const { role, scopes, rows } = rightsOfToken(principal, wish)
      const use = wish.for ?? 'api'
      const seconds = wish.expires_in ?? (use === 'stream' ? STREAM_TOKEN_SECONDS : lifetimeMs / 1000)
      const iat = Math.floor(now() / 1000)
      const until = principal.expiresAt === undefined ? undefined : Math.floor(principal.expiresAt / 1000)
      const exp = Math.min(iat + Math.floor(seconds), until ?? Number.POSITIVE_INFINITY)
      if (exp <= iat) throw expired()
      const jti = randomUUID()
      const claims: TokenClaims = {
        iss: OWN_ISSUER,
        aud: OWN_ISSUER,
        sub: principal.id,
        ...(principal.keyId !== undefined && { key: principal.keyId }),
        role,
        scopes: { read: [...scopes.read], write: [...scopes.write] },
        rows: readable(JSON.stringify(printFilter(rows))),
        use,
        ...(use === 'stream' && until !== undefined && { until }),
        jti,
        iat,
        exp,
      }
      const token = codec.sign(claims, await secrets.signing())
      if (token.length > MAX_TOKEN_LENGTH) {
        const message = `asks for a token of more than ${MAX_TOKEN_LENGTH} characters: shorten its filter or lists`
        throw invalid('body', message)
      }
      const expires_at = new Date(exp * 1000).toISOString()
      await recordAudit(pool, access, {
        action: 'token.create',
        target: null,
        details: { jti, use, expires_at },
      })
      return { token, expires_at }
    },

    authenticator: authenticatorOf('api'),

    /** Takes what opens a stream, and nothing else. */
    streamAuthenticator: authenticatorOf('stream'),
  }

  function authenticatorOf(wanted: TokenUse): Authenticator {
    return {
      // Going by its header alone.
      accepts: (text) => algorithmOf(text) === OWN_ALGORITHM,
      async authenticate(token, use) {
        const remembered = verified.get(token)
        const found = remembered !== undefined && stands(remembered) ? remembered : await verify(token)
        const { principal } = found
        if (found.use !== wanted) throw refused()
        if (principal.keyId !== undefined && !(await keys.ensure(principal.keyId, use))) {
          throw invalidCredential('the key of this token was revoked or has expired')
        }
        verified.set(token, found)
        return principal
      },
    }
  }
}

/** What every wrong token is answered: why is for whoever made it to find. */
export function refused(): DualstoreError {
  return invalidCredential('this token is not valid')
}

/** Only told of a token whose signature is right. */
export function expired(): DualstoreError {
  return invalidCredential('this token has expired')
}

/** What a token says it is signed with; undefined for what is no token, or is too long to be looked at. */
export function algorithmOf(text: string): string | undefined {
  if (text.length > MAX_TOKEN_LENGTH) return undefined
  try {
    return headerOf(text).alg
  } catch {
    return undefined
  }
}

/** Nothing else of a header is ever looked at: keys and addresses in it (jwk, jku, x5u) are the sender's own. */
function headerOf(token: string): { alg: string; kid: string } {
  try {
    const { alg, kid } = jwt().decodeProtectedHeader(token)
    return { alg: String(alg), kid: typeof kid === 'string' ? kid : '' }
  } catch {
    throw refused()
  }
}

function principalOf({ sub, key, role, scopes, rows, use, until, exp }: TokenClaims): Principal {
  const end = use === 'stream' ? until : exp
  return {
    kind: 'token',
    id: sub,
    role,
    scopes,
    rows: parseFilter(rows),
    keyId: key,
    expiresAt: end === undefined ? undefined : end * 1000,
  }
}

/** Two filters laid over each other may be more than one may be. */
function readable(rows: string): string {
  parseFilter(rows, 'body.filter')
  return rows
}

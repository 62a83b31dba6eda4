import { decodeJwt, errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from 'jose'
import { DualstoreError } from '../errors.js'
import { everything, type Filter } from '../filter/ast.js'
import { parseFilter } from '../filter/parse.js'
import { resolve } from '../filter/path.js'
import type { Json } from '../schemas/item.js'
import type { Authenticator } from './authenticator.js'
import { KeysUnavailable } from './jwks.js'
import { type CollectionScopes, type Principal, type Role, roles } from './principal.js'
import { algorithmOf, expired, MAX_TOKEN_LENGTH, refused } from './tokens.js'

/** What an issuer may sign with: never with a shared secret, of which its public key could be made one. */
export const ISSUER_ALGORITHMS = ['RS256', 'ES256', 'EdDSA']
const MAX_SUBJECT_LENGTH = 255

/** How the claims of an issuer become rights. */
export interface ClaimMapping {
  /** Claim with one role or several, of which the greatest counts. Dots lead into objects. */
  role: string
  /** What the issuer calls a role, by its own name; undefined: as they are called here. */
  roleNames: ReadonlyMap<string, Role> | undefined
  /** Claim with read:<pattern> and write:<pattern>, as an array or with spaces between. undefined: all collections. */
  scopes: string | undefined
  /** Claim with a filter for documents. undefined: all documents. */
  rows: string | undefined
}

export interface IssuerOptions {
  issuer: string
  audience: string
  keys: JWTVerifyGetKey
  mapping: ClaimMapping
  clockSkewMs: number
  now?: () => number
}

/** Takes the tokens of an identity provider, which it signs with a key pair of its own. */
export function createIssuer({
  issuer,
  audience,
  keys,
  mapping,
  clockSkewMs,
  now = Date.now,
}: IssuerOptions): Authenticator {
  return {
    accepts: (text) => ISSUER_ALGORITHMS.includes(algorithmOf(text) ?? ''),

    /** @throws UNAUTHORIZED; ISSUER_UNAVAILABLE while it cannot be told whether the token is valid */
    async authenticate(token): Promise<Principal> {
      // Nobody's keys are asked for because of a token that cannot be theirs.
      if (token.length > MAX_TOKEN_LENGTH || claimedIssuer(token) !== issuer) throw refused()
      const claims = await verified(token)
      const { sub, iat, exp } = claims
      if (iat !== undefined && iat * 1000 > now() + clockSkewMs) throw refused()
      if (!isSubject(sub) || exp === undefined || !Number.isFinite(exp)) throw refused()
      return {
        kind: 'token',
        id: `token:${issuer}:${sub}`,
        role: roleOf(claims, mapping),
        scopes: scopesOf(claims, mapping),
        rows: rowsOf(claims, mapping),
        keyId: undefined,
        expiresAt: exp * 1000,
      }
    },
  }

  async function verified(token: string): Promise<JWTPayload> {
    try {
      const { payload } = await jwtVerify(token, keys, {
        issuer,
        audience,
        algorithms: ISSUER_ALGORITHMS,
        requiredClaims: ['exp', 'sub'],
        clockTolerance: clockSkewMs / 1000,
        currentDate: new Date(now()),
      })
      return payload
    } catch (error) {
      if (error instanceof errors.JWTExpired) throw expired()
      if (error instanceof KeysUnavailable || error instanceof errors.JWKSTimeout) {
        throw new DualstoreError('ISSUER_UNAVAILABLE', "the issuer's keys cannot be read; try again", {
          cause: error,
        })
      }
      throw refused()
    }
  }
}

function claimedIssuer(token: string): unknown {
  try {
    return decodeJwt(token).iss
  } catch {
    return undefined
  }
}

/** It stands in the log of changes and in lines for people. */
function isSubject(sub: unknown): sub is string {
  return typeof sub === 'string' && /^[^\p{Cc}\p{Surrogate}]+$/u.test(sub) && sub.length <= MAX_SUBJECT_LENGTH
}

function roleOf(claims: JWTPayload, { role, roleNames }: ClaimMapping): Role {
  const given = textsOf(claimAt(claims, role))
  const meant = given.map((name) => (roleNames === undefined ? name : roleNames.get(name)))
  const greatest = roles.findLast((candidate) => meant.includes(candidate))
  if (greatest === undefined) throw refused()
  return greatest
}

function scopesOf(claims: JWTPayload, { scopes }: ClaimMapping): CollectionScopes {
  if (scopes === undefined) return { read: ['*'], write: ['*'] }
  const claim = claimAt(claims, scopes)
  const given = textsOf(typeof claim === 'string' ? claim.split(' ') : claim)
  const of = (action: string) =>
    given.filter((text) => text.startsWith(`${action}:`)).map((text) => text.slice(action.length + 1))
  return { read: of('read'), write: of('write') }
}

function rowsOf(claims: JWTPayload, { rows }: ClaimMapping): Filter {
  if (rows === undefined) return everything
  try {
    return parseFilter(claimAt(claims, rows))
  } catch {
    throw refused()
  }
}

/** A claim by its whole name, which may be a URL, or by a path into objects. */
function claimAt(claims: JWTPayload, name: string): Json | undefined {
  return Object.hasOwn(claims, name) ? (claims[name] as Json) : resolve(claims as Json, name.split('.'))
}

function textsOf(claim: Json | undefined): string[] {
  const several = Array.isArray(claim) ? claim : [claim]
  return several.filter((text) => typeof text === 'string')
}

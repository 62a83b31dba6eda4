import { DualstoreError } from '../errors.js'
import type { Principal } from './principal.js'

/** What a request is for: while PostgreSQL is away, what is remembered of a credential is good for reading alone. */
export type Use = 'read' | 'write'

/** One kind of credential. The first that accepts a text decides about it. */
export interface Authenticator {
  /** True when the text is of this kind; decides nothing about whether it is worth anything. */
  accepts(text: string): boolean
  /**
   * Who the credential stands for.
   * @throws UNAUTHORIZED when it is wrong, expired or revoked; STORE_UNAVAILABLE when that cannot be told now.
   */
  authenticate(text: string, use: Use): Promise<Principal>
}

/** The texts that clients of the legacy server compare (legacy contract, section 6). */
export const MISSING_CREDENTIAL = 'missing authorization header'
export const INVALID_CREDENTIAL = 'invalid authorization header'

/** A credential that is worth nothing. @param reason For people; only who proved the secret may learn more than that. */
export function invalidCredential(reason = 'this key or token is not known here'): DualstoreError {
  return new DualstoreError('UNAUTHORIZED', reason, { error: INVALID_CREDENTIAL })
}

/** A request without any credential. */
export function missingCredential(): DualstoreError {
  return new DualstoreError('UNAUTHORIZED', 'send a key as "authorization: Bearer <key>"', {
    error: MISSING_CREDENTIAL,
  })
}

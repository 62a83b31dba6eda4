import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Pool } from '../db/pool.js'
import { sharedReading } from '../db/shared-reading.js'
import {
  addTokenSecret,
  readSigningSecret,
  readTokenSecrets,
  type TokenSecret,
} from '../store/token-secrets.js'

/** No token lives longer, in milliseconds: how long a rotated secret has to verify what was signed with it last. */
export const MAX_TOKEN_LIFETIME_MS = 3_600_000
/** Least time between two readings that unknown names cause. */
const LEAST_PAUSE_MS = 250

/**
 * The secrets that this server's own tokens are signed with. They are kept in the database, so that every instance
 * verifies what another one signed, and rotated. Each is named by its `kid`, which a token's header repeats.
 */
export interface TokenSecrets {
  /** What to sign with now: read anew each time, and made when the newest is to be rotated. @throws STORE_UNAVAILABLE */
  signing(): Promise<TokenSecret>
  /**
   * The secret of this name. An unknown one may have been made by another instance just now, so it is looked for: at
   * most four times a second, however many unknown names are asked for. @throws STORE_UNAVAILABLE
   */
  find(kid: string): Promise<TokenSecret | undefined>
  /** True while the secret verifies, as far as this instance knows. */
  has(kid: string): boolean
  /** Starts reading in the background, so that a secret that is gone is forgotten; the returned function stops it. */
  watch(refreshMs: number): () => void
}

export interface TokenSecretsOptions {
  pool: Pool
  /** How long a secret signs, in milliseconds. */
  rotationMs: number
  /** How far clocks may be apart, in milliseconds: tokens are taken so much longer. */
  clockSkewMs: number
}

export function createTokenSecrets({ pool, rotationMs, clockSkewMs }: TokenSecretsOptions): TokenSecrets {
  let known = new Map<string, TokenSecret>()
  let readAt = Number.NEGATIVE_INFINITY

  const read = async () => {
    readAt = performance.now()
    const rows = await readTokenSecrets(pool)
    known = new Map(rows.map((row) => [row.kid, row]))
  }
  const refresh = sharedReading(read)
  const look = sharedReading(async () => {
    const pause = readAt + LEAST_PAUSE_MS - performance.now()
    if (pause > 0) await delay(pause, undefined, { ref: false })
    await read()
  })

  return {
    async signing() {
      const secret =
        (await readSigningSecret(pool, rotationMs)) ??
        // Two instances that do this at once make two: both verify, and the newer one signs from then on.
        (await addTokenSecret(pool, {
          kid: randomBytes(9).toString('base64url'),
          secret: randomBytes(32),
          lifeMs: rotationMs + MAX_TOKEN_LIFETIME_MS + clockSkewMs,
        }))
      known.set(secret.kid, secret)
      return secret
    },
    async find(kid) {
      if (!known.has(kid)) await look()
      return known.get(kid)
    },
    has: (kid) => known.has(kid),
    watch(refreshMs) {
      const timer = setInterval(() => void refresh().catch(() => {}), refreshMs)
      timer.unref()
      return () => clearInterval(timer)
    },
  }
}

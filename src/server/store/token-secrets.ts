import { type Queryable, query } from '../db/pool.js'

/** What tokens are signed with. Times are epoch milliseconds of PostgreSQL's clock. */
export interface TokenSecret {
  kid: string
  /** At least 32 bytes. */
  secret: Buffer
  created_at: number
  expires_at: number
}

const COLUMNS = 'kid, secret, created_at, expires_at'

/** Every secret that still verifies. */
export async function readTokenSecrets(on: Queryable): Promise<TokenSecret[]> {
  return query<TokenSecret>(
    on,
    `SELECT ${COLUMNS} FROM dualstore.token_secrets WHERE expires_at > dualstore.now_ms()`,
  )
}

/** The newest secret, when it is not older than `rotationMs`. */
export async function readSigningSecret(on: Queryable, rotationMs: number): Promise<TokenSecret | undefined> {
  const [newest] = await query<TokenSecret>(
    on,
    `SELECT ${COLUMNS} FROM dualstore.token_secrets
     WHERE created_at > dualstore.now_ms() - $1::bigint AND expires_at > dualstore.now_ms()
     ORDER BY created_at DESC, kid LIMIT 1`,
    [rotationMs],
  )
  return newest
}

export interface NewTokenSecret {
  kid: string
  secret: Buffer
  /** How long it verifies, in milliseconds. */
  lifeMs: number
}

/** Adds a secret, and forgets those that verify nothing any more. */
export async function addTokenSecret(
  on: Queryable,
  { kid, secret, lifeMs }: NewTokenSecret,
): Promise<TokenSecret> {
  const [added] = await query<TokenSecret>(
    on,
    `WITH expired AS (DELETE FROM dualstore.token_secrets WHERE expires_at <= dualstore.now_ms())
     INSERT INTO dualstore.token_secrets (kid, secret, created_at, expires_at)
     SELECT $1, $2, at, at + $3::bigint FROM (SELECT dualstore.now_ms() AS at OFFSET 0) clock RETURNING ${COLUMNS}`,
    [kid, secret, lifeMs],
  )
  return added as TokenSecret
}

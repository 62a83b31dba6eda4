import { createRemoteJWKSet, customFetch, type JWTVerifyGetKey } from 'jose'

/** How long the keys of an issuer are used before they are read again. */
const KEPT_MS = 600_000
/** Least time between two readings because of a key that is not among them. */
const COOLDOWN_MS = 30_000
const TIMEOUT_MS = 3000
/** After a failed reading nobody asks again for so long. */
const PAUSE_MS = 5000
const MOST_BYTES = 256 * 1024

export interface JwksOptions {
  url: string
  /** Told once for each failed reading. */
  onFailure: (error: Error) => void
}

/** The issuer's keys cannot be read: whether a token is valid is not known. */
export class KeysUnavailable extends Error {}

/**
 * An issuer's public keys, read when they are needed: at most 256 KB in at most 3 s, without following redirects. An
 * unknown key makes them be read again, at most every 30 s; a failed reading, after 5 s.
 */
export function remoteKeys({ url, onFailure }: JwksOptions): JWTVerifyGetKey {
  let failedAt = Number.NEGATIVE_INFINITY
  const failed = (cause: unknown) => {
    failedAt = performance.now()
    const error = new KeysUnavailable(`the keys at ${url} cannot be read: ${reasonOf(cause)}`, { cause })
    onFailure(error)
    return error
  }
  const fetchKeys = async (from: string, init: RequestInit): Promise<Response> => {
    try {
      const response = await fetch(from, init)
      const text = await readAtMost(response, MOST_BYTES)
      if (response.status !== 200) throw new Error(`status ${response.status}`)
      requireKeys(text)
      return new Response(text)
    } catch (error) {
      throw failed(error)
    }
  }
  const keys = createRemoteJWKSet(new URL(url), {
    cacheMaxAge: KEPT_MS,
    cooldownDuration: COOLDOWN_MS,
    timeoutDuration: TIMEOUT_MS,
    [customFetch]: async (from, init) => {
      if (performance.now() - failedAt < PAUSE_MS)
        throw new KeysUnavailable('the keys could not be read just now')
      return fetchKeys(from, init as RequestInit)
    },
  })
  return (header, token) => keys(header, token)
}

async function readAtMost(response: Response, bytes: number): Promise<string> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of response.body ?? []) {
    length += chunk.length
    // Leaving the loop cancels the rest.
    if (length > bytes) throw new Error(`more than ${bytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function requireKeys(text: string): void {
  const { keys } = Object(JSON.parse(text)) as { keys?: unknown }
  if (
    !Array.isArray(keys) ||
    !keys.every((key) => typeof key === 'object' && key !== null && !Array.isArray(key))
  ) {
    throw new Error('no JSON Web Key Set')
  }
}

function reasonOf(error: unknown): string {
  const { name, message, cause } = error as Error
  if (name === 'TimeoutError') return `no answer within ${TIMEOUT_MS} ms`
  if (error instanceof SyntaxError) return 'no JSON'
  return cause instanceof Error ? cause.message : message
}

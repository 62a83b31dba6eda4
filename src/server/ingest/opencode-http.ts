import { DualstoreError, invalid } from '../errors.js'

/** An OpenCode server as it is reached. */
export interface OpencodeAddress {
  /** Without a slash at the end. */
  url: string
  /** What the address was given by, for messages: --from, DUALSTORE_INGEST_OPENCODE_URL */
  givenBy: string
  /** OPENCODE_SERVER_PASSWORD and OPENCODE_SERVER_USERNAME of the server. */
  password?: string | undefined
  username?: string | undefined
}

export interface OpencodeRequest {
  /** Sent with POST, as JSON. */
  body?: unknown
  /** Answers with 404 are an answer too. */
  mayBeMissing?: boolean
  signal: AbortSignal
}

const DEFAULT_USERNAME = 'opencode'

/**
 * One request to OpenCode; resolves to an answer below 400, or 404 where that may be.
 * @throws PROVIDER_UNAVAILABLE when it cannot be reached or fails, UNAUTHORIZED when it refuses the password
 */
export async function requestOpencode(
  address: OpencodeAddress,
  path: string,
  { body, mayBeMissing = false, signal }: OpencodeRequest,
): Promise<Response> {
  const { url, username = DEFAULT_USERNAME, password } = address
  const headers: Record<string, string> = {}
  if (body !== undefined) headers['content-type'] = 'application/json'
  if (password !== undefined) {
    headers.authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
  }
  const post = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }
  const response = await fetch(`${url}${path}`, { headers, signal, ...post }).catch((error: unknown) => {
    throw away(address, reasonOf(error), error)
  })
  if (response.ok || (mayBeMissing && response.status === 404)) return response
  await response.body?.cancel().catch(() => {})
  if (response.status === 401 || response.status === 403) {
    throw new DualstoreError(
      'UNAUTHORIZED',
      `${url} asks for a password; give it by OPENCODE_SERVER_PASSWORD, and its user by OPENCODE_SERVER_USERNAME when it is not "${DEFAULT_USERNAME}"`,
    )
  }
  throw away(address, `${path} was answered with ${response.status}`)
}

/** The same for an answer in JSON; undefined for 404 where that may be. */
export async function requestJson<T>(
  address: OpencodeAddress,
  path: string,
  options: OpencodeRequest,
): Promise<T | undefined> {
  const response = await requestOpencode(address, path, options)
  if (response.status === 404) {
    await response.body?.cancel().catch(() => {})
    return undefined
  }
  requireJson(address, path, response)
  return bodyOf<T>(address, response)
}

/** The answer's JSON. @throws PROVIDER_UNAVAILABLE when it breaks off */
export async function bodyOf<T>(address: OpencodeAddress, response: Response): Promise<T> {
  return (await response.json().catch((error: unknown) => {
    throw away(address, reasonOf(error), error)
  })) as T
}

/** OpenCode answers a path it does not know with its web page and 200. */
export function requireJson(address: OpencodeAddress, path: string, response: Response): void {
  if (response.headers.get('content-type')?.includes('application/json')) return
  response.body?.cancel().catch(() => {})
  throw new DualstoreError(
    'INVALID_REQUEST',
    `${address.url} does not know ${path}: this needs an OpenCode server that keeps a history, as 1.18.33 does`,
  )
}

/** @throws INVALID_REQUEST when something else answers there, above all a dualstore. */
export async function requireOpencode(address: OpencodeAddress, signal: AbortSignal): Promise<void> {
  const health = await fetchHealth(address, signal)
  if (health?.healthy === true) return
  if (health?.success === false && typeof health.code === 'string') {
    throw invalid(
      address.givenBy,
      'names a dualstore server; it must be the OpenCode server to follow, such as http://127.0.0.1:4096',
    )
  }
  throw invalid(address.givenBy, `must be an OpenCode server, and ${address.url} does not answer as one`)
}

type Health = { healthy?: unknown; success?: unknown; code?: unknown }

/** What is said under /global/health, by whatever answers there. */
async function fetchHealth(address: OpencodeAddress, signal: AbortSignal): Promise<Health | undefined> {
  const path = '/global/health'
  // A dualstore says by any refusal that it is one; of OpenCode only an answer counts.
  const bare = await fetch(`${address.url}${path}`, { signal }).catch((error: unknown) => {
    throw away(address, reasonOf(error), error)
  })
  const said = (await bare.json().catch(() => undefined)) as Health | undefined
  if (bare.status !== 401 || said?.success === false) return said
  return requestJson<Health>(address, path, { signal })
}

/** PROVIDER_UNAVAILABLE with the reason. */
export function away({ url }: OpencodeAddress, reason: string, cause?: unknown): DualstoreError {
  return new DualstoreError('PROVIDER_UNAVAILABLE', `OpenCode at ${url} is away: ${reason}`, { cause })
}

/** Why a connection failed, as shortly as Node tells it. */
export function reasonOf(error: unknown): string {
  const { cause, message } = error as { cause?: { code?: string; message?: string }; message?: string }
  return cause?.code ?? cause?.message ?? message ?? String(error)
}

import { DualstoreError } from '../../server/errors.js'
import { type Fields, isPlain } from '../understand/json.js'
import { unavailable } from './unavailable.js'

/** A running legacy server as it is reached. */
export interface LegacyServer {
  /** Without a slash at the end. */
  url: string
  /** The same without user and password. */
  name: string
  token?: string | undefined
}

/** A page of a list. */
export interface Page {
  items: Fields[]
  /** Documents that the server knows to be in the list, at most the newest thousand. */
  total: number
  hasMore: boolean
}

const ANSWER_TIMEOUT_MS = 30_000

/** @throws SOURCE_UNAVAILABLE; undefined when the server has no such collection. */
export async function fetchPage(
  server: LegacyServer,
  collection: string,
  { limit, offset }: { limit: number; offset: number },
  signal?: AbortSignal,
): Promise<Page | undefined> {
  // Newest first: what is written meanwhile moves documents to later pages, where they are met once more.
  const query = new URLSearchParams({
    limit: String(limit),
    offset: String(offset),
    sort_by: 'created_at',
    sort_order: 'desc',
  })
  const answer = await fetchJson(server, `/api/v1/${encodeURIComponent(collection)}?${query}`, signal)
  if (answer === undefined) return undefined
  const { data, pagination } = isPlain(answer) ? answer : {}
  if (!Array.isArray(data)) throw unavailable(server.name, `it answers no list for ${collection}`)
  const { total, has_more } = isPlain(pagination) ? pagination : {}
  return {
    items: data.filter(isPlain),
    total: typeof total === 'number' ? total : offset + data.length,
    hasMore: has_more === true && data.length > 0,
  }
}

async function fetchJson(
  { url, name, token }: LegacyServer,
  path: string,
  signal?: AbortSignal,
): Promise<unknown> {
  const limit = AbortSignal.timeout(ANSWER_TIMEOUT_MS)
  try {
    const response = await fetch(url + path, {
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      signal: signal === undefined ? limit : AbortSignal.any([signal, limit]),
    })
    if (response.ok) return await response.json()
    await response.body?.cancel()
    if (response.status === 404) return undefined
    if (response.status === 401) throw unavailable(name, 'it refuses the token')
    throw unavailable(name, `${path.replace(/\?.*/, '')} is answered with ${response.status}`)
  } catch (error) {
    if (error instanceof DualstoreError || signal?.aborted) throw error
    const { cause } = error as { cause?: { code?: unknown } }
    const reason = typeof cause?.code === 'string' ? cause.code : 'it does not answer with JSON in time'
    throw unavailable(name, reason, error)
  }
}

import { createClient, DualstoreClientError } from '../../client/index.js'
import { invalid } from '../../server/errors.js'
import type { Followed, FollowRequest } from './contract.js'
import { type ServerAddress, toldBy } from './http.js'

/** Changes from a running server, over as many connections as it takes. @throws the catalogue's errors */
export async function* followRemote(
  { url, key }: ServerAddress,
  prefix: string,
  request: FollowRequest,
): AsyncGenerator<Followed> {
  const { collection, since, selection, signal, onTrouble } = request
  const client = createClient({ url, prefix, key })
  const events = client.stream({
    collections: collection === undefined ? undefined : [collection],
    from: since,
    sessionId: selection.session_id,
    filter: selection.filter === undefined ? undefined : parsed(selection.filter),
    onReset: 'continue',
    heartbeats: true,
    signal,
    onState: (state) => {
      if (state.state === 'waiting') onTrouble(state.reason)
    },
  })
  try {
    yield* events
  } catch (error) {
    if (!(error instanceof DualstoreClientError) || error.status === undefined) throw error
    const { status, code, message, details, extra } = error
    throw toldBy(status, { ...extra, code, message, ...(details && { details: [...details] }) })
  }
}

function parsed(filter: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(filter)
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  } catch {
    // Told below, as what is no object.
  }
  throw invalid('query.filter', 'must be a JSON object', 'INVALID_FILTER')
}

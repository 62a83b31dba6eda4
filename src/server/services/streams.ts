import { randomUUID } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { parsePosition } from '../changes/position.js'
import type { Pool } from '../db/pool.js'
import { DualstoreError, invalid } from '../errors.js'
import type { Log } from '../followers/contract.js'
import type { Tail } from '../followers/tail.js'
import type { SelectionQuery } from '../schemas/wire.js'
import type { ListingService } from './listing.js'
import type { Access } from './principal.js'
import type { Registry } from './registry.js'
import { requireScope } from './rights.js'
import { beginAt } from './streams/beginning.js'
import { type Sink, StreamClient } from './streams/client.js'
import { createView, type StreamFormat, type View } from './streams/events.js'
import { createHub } from './streams/hub.js'
import { type ChangesPage, createPolling, positionGone } from './streams/polling.js'
import { createSnapshot } from './streams/snapshot.js'
import { createValidity, type ValidityOptions } from './streams/validity.js'

/** Which changes: of some collections or all, and of these what matches. */
export interface Watched {
  /** undefined: all, those made later too. */
  collections: readonly string[] | undefined
  /** What lists take, without q. */
  query: SelectionQuery
}

export interface StreamRequest extends Watched {
  format: StreamFormat
  /** Of the header, which is newer than the parameter. */
  lastEventId?: string | undefined
  /** Of the query. */
  since?: string | undefined
  snapshot: boolean
  /** Who is counted for the limit of streams: an address. */
  owner: string
}

export interface ChangesRequest extends Watched {
  /** undefined: from now on. */
  since?: string | undefined
  limit: number
  /** How long to wait for the first matching change, in milliseconds. */
  waitMs: number
  /** Ends the waiting. */
  signal?: AbortSignal | undefined
}

export interface StreamServiceOptions extends Partial<ValidityOptions> {
  pool: Pool
  registry: Registry
  listing: ListingService
  tail: Tail
  heartbeatMs: number
  maxClients: number
  maxClientsPerOwner: number
  log: Log
}

export type StreamService = ReturnType<typeof createStreamService>

const KEPT_VIEWS = 1000

export function createStreamService({
  now = Date.now,
  isValid = () => true,
  confirm = async () => true,
  onAccessChange = () => () => {},
  ...options
}: StreamServiceOptions) {
  const { pool, registry, listing, tail } = options
  const validity = createValidity({ isValid, confirm, onAccessChange, now })
  const hub = createHub({ ...options, now })
  const polling = createPolling(tail)
  /** Equal views of many clients are one object. */
  const views = new LRUCache<string, View>({ max: KEPT_VIEWS })

  const viewOf = async (
    access: Access,
    { collections, query }: Watched,
    format: StreamFormat,
  ): Promise<View> => {
    const { principal } = access
    if (query.q !== undefined) {
      throw invalid('query.q', 'cannot be used with changes: full text is not part of the filter language')
    }
    for (const name of collections ?? []) {
      requireScope(principal, 'read', name)
      await registry.get(name)
    }
    if (principal.scopes.read.length === 0)
      throw new DualstoreError('FORBIDDEN', 'your key does not allow to read any collection')
    const view = createView({ collections, filter: listing.filterOf(access, query), format, principal })
    const known = views.get(view.key) ?? view
    views.set(view.key, known)
    return known
  }

  return {
    /** Streams that are open. */
    get clients() {
      return hub.clients
    },

    /**
     * Opens a stream; nothing is written before the returned function is called with where to write, which may find
     * that there are too many. When the caller's key is revoked or expires, the stream ends.
     * @throws FORBIDDEN, UNAUTHORIZED, INVALID_REQUEST, INVALID_FILTER, COLLECTION_NOT_FOUND, OVERLOADED, TOO_MANY_REQUESTS, SHUTTING_DOWN,
     * STORE_UNAVAILABLE
     */
    async open(access: Access, request: StreamRequest): Promise<(sink: Sink) => StreamClient> {
      const { lastEventId, since, owner } = request
      if (since !== undefined) requirePosition('query.last_event_id', since)
      const view = await viewOf(access, request, request.format)
      const head = await tail.head()
      const start = beginAt(lastEventId ?? since, head)
      const snapshot = request.snapshot ? () => createSnapshot({ pool, tail, view, now }) : undefined
      await validity.require(access.principal)
      return (sink) => {
        const client = new StreamClient(hub.hub, {
          id: randomUUID(),
          owner,
          view,
          sink,
          position: start.position,
        })
        hub.add(client)
        client.onGone = validity.watch(access.principal, () => client.close('unauthorized', null))
        client.start(start, snapshot)
        return client
      }
    },

    /**
     * The changes behind a position, for those who poll.
     * @throws FORBIDDEN, UNAUTHORIZED also when the key is revoked or expires while it waits, INVALID_REQUEST,
     * INVALID_FILTER, COLLECTION_NOT_FOUND, STORE_UNAVAILABLE, POSITION_GONE with `reason`
     * and the `position` to go on from
     */
    async changes(access: Access, request: ChangesRequest): Promise<ChangesPage> {
      const { since } = request
      if (since !== undefined) requirePosition('since', since)
      const view = await viewOf(access, request, 'named')
      const head = await tail.head()
      const { position, lost } = beginAt(since, head)
      if (lost !== undefined) throw positionGone(lost.reason, head)
      const ended = new AbortController()
      const unwatch = validity.watch(access.principal, () => ended.abort())
      try {
        const waiting = { ...request, signals: [request.signal, ended.signal] }
        return await polling.changes(view, position, head.position, waiting)
      } finally {
        unwatch()
        await validity.require(access.principal)
      }
    },

    /** Ends every stream and every waiting poll: the clients are told to come back. */
    close(): void {
      hub.close()
      polling.close()
      validity.close()
    },
  }
}

function requirePosition(field: string, text: string): void {
  if (parsePosition(text) === undefined) throw invalid(field, 'must be a position such as 5f0c2a91-42')
}

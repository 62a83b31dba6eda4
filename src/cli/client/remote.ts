import { Readable } from 'node:stream'
import type { ReadableStream as WebStream } from 'node:stream/web'
import type { CollectionAnswer } from '../../server/services/collections.js'
import type { ImportReport } from '../../server/services/transfer.js'
import type { Changed, CollectionsClient } from './contract.js'
import { followRemote } from './follow-remote.js'
import { type HttpRequest, request, requestData, type ServerAddress, unreachable } from './http.js'

const DEFAULT_PREFIX = '/api/v1'

/** Works through the HTTP API of a running server. */
export async function openRemoteClient(server: ServerAddress): Promise<CollectionsClient> {
  const prefix = await apiPrefix(server)
  const call = <T>(path: string, options?: HttpRequest) => requestData<T>(server, `${prefix}${path}`, options)
  const definitionPath = (name: string) => `/collections/${encodeURIComponent(name)}`
  const documentsPath = (name: string) => `/${encodeURIComponent(name)}`
  const show = (name: string) => call<CollectionAnswer>(definitionPath(name))
  const change = (given: { allowMisfits?: boolean | undefined; dryRun?: boolean | undefined }) => ({
    allow_misfits: given.allowMisfits,
    dry_run: given.dryRun,
  })

  return {
    where: server.url,
    list: () => call<CollectionAnswer[]>('/collections'),
    show,
    create: (body) => call<CollectionAnswer>('/collections', { method: 'POST', body }),
    replace: (name, body, options) =>
      call<Changed>(definitionPath(name), { method: 'PUT', body, query: change(options) }),
    modify: (name, body, options) =>
      call<Changed>(definitionPath(name), { method: 'PATCH', body, query: change(options) }),
    drop: async (name) =>
      (await call<{ deleted: number }>(definitionPath(name), { method: 'DELETE', query: { confirm: name } }))
        .deleted,
    count: async (name) => (await show(name)).documents,

    async importNdjson(name, source, onConflict) {
      // A refusal in the middle of an upload may be lost with the connection, so the server is asked beforehand.
      await request(server, `${prefix}${documentsPath(name)}`, { query: { limit: 1, count: 'none' } })
      return call<ImportReport>(`${documentsPath(name)}/import`, {
        method: 'POST',
        query: { on_conflict: onConflict },
        stream: source,
      })
    },

    async exportNdjson(name, selection) {
      const response = await request(server, `${prefix}${documentsPath(name)}/export`, { query: selection })
      return Readable.from(bodyOf(server, response), { objectMode: false })
    },

    follow: (request) => followRemote(server, prefix, request),

    mirrorFollows: async () => true,
    close: async () => {},
  }
}

/** The server's root names the prefix of its API; behind a proxy that hides the root, the default one is taken. */
export async function apiPrefix(server: ServerAddress): Promise<string> {
  try {
    const root = await (await request(server, '/')).json()
    const prefix = (root as { endpoints?: { collections?: unknown } }).endpoints?.collections
    return typeof prefix === 'string' ? prefix : DEFAULT_PREFIX
  } catch (error) {
    if ((error as { code?: string }).code === 'NOT_FOUND' || error instanceof SyntaxError)
      return DEFAULT_PREFIX
    throw error
  }
}

/** The body of an answer as it comes. @throws STORE_UNAVAILABLE when it breaks off */
export async function* bodyOf(server: ServerAddress, response: Response): AsyncGenerator<Uint8Array> {
  try {
    yield* (response.body ?? []) as WebStream<Uint8Array>
  } catch (error) {
    throw unreachable(server.url, error)
  }
}

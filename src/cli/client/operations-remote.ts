import type { JobAnswer, ParkedAnswer, ParkedDetailAnswer } from '../../server/schemas/jobs.js'
import { type HttpRequest, request, requestData, type ServerAddress } from './http.js'
import type { OperationsClient, ParkedKey } from './operations.js'
import { apiPrefix, bodyOf } from './remote.js'

/** Works through the HTTP API of a running server. */
export async function openRemoteOperations(server: ServerAddress): Promise<OperationsClient> {
  const prefix = await apiPrefix(server)
  const send = (path: string, options?: HttpRequest) => request(server, `${prefix}${path}`, options)
  const call = <T>(path: string, options?: HttpRequest) => requestData<T>(server, `${prefix}${path}`, options)
  const jobPath = (id: string) => `/dualstore/jobs/${encodeURIComponent(id)}`
  const parkedPath = ({ collection, id }: ParkedKey) =>
    `/dualstore/parked/${encodeURIComponent(collection)}/${encodeURIComponent(id)}`
  const foreignPath = (collection: string) => `/dualstore/foreign/${encodeURIComponent(collection)}`
  const method = 'POST'

  return {
    where: server.url,
    start: (kind, body) => call<JobAnswer>(`/dualstore/${kind}`, { method, body }),
    job: (id) => call<JobAnswer>(jobPath(id)),
    jobs: (query) => call<JobAnswer[]>('/dualstore/jobs', { query }),
    cancel: (id) => call<JobAnswer>(`${jobPath(id)}/cancel`, { method }),
    async *findings(id) {
      yield* bodyOf(server, await send(`${jobPath(id)}/differences`))
    },
    parked: (query) => call<ParkedAnswer[]>('/dualstore/parked', { query }),
    showParked: (key) => call<ParkedDetailAnswer>(parkedPath(key)),
    retryParked: (key) => call(`${parkedPath(key)}/retry`, { method }),
    skipParked: async (key) => void (await call(`${parkedPath(key)}/skip`, { method })),
    collections: async () => (await call<{ name: string }[]>('/collections')).map(({ name }) => name),
    async *foreign(collection) {
      yield* bodyOf(server, await send(foreignPath(collection)))
    },
    removeForeign: async (collection, lines) => {
      const body = { lines }
      return (await call<{ removed: number }>(`${foreignPath(collection)}/remove`, { method, body })).removed
    },
    close: async () => {},
  }
}

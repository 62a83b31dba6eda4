import type { LoadedConfig } from '../../server/config/load.js'
import { type Context, openContext } from '../../server/context.js'
import { jobAnswer } from '../../server/services/jobs/answer.js'
import { parkedAnswer, parkedDetailAnswer, placeOf } from '../../server/services/parked.js'
import { localAccess } from '../../server/services/principal.js'
import { createCommandLog } from '../log.js'
import type { OperationsClient } from './operations.js'

/**
 * Works on both stores themselves, through the same services as the server. A job is run by a server on these stores
 * when there is one, and otherwise here.
 */
export async function openLocalOperations(loaded: LoadedConfig): Promise<OperationsClient> {
  return localOperations(
    await openContext(loaded.config, await createCommandLog(loaded), { migrate: 'embedded' }),
  )
}

/** As openLocalOperations, on stores that are open already; closing it closes them. */
export function localOperations(context: Context): OperationsClient {
  const { jobs, parked, foreign, collections } = context
  let runs = false
  return {
    where: 'the local stores',
    async start(kind, request) {
      const job = await jobs.start(kind, request, localAccess)
      if (!runs) context.startJobs()
      runs = true
      return jobAnswer(job)
    },
    job: async (id) => jobAnswer(await jobs.get(id)),
    jobs: async (filter) => (await jobs.list(filter)).map(jobAnswer),
    cancel: async (id) => jobAnswer(await jobs.cancel(id)),
    async *findings(id) {
      yield* await jobs.findings(id)
    },
    parked: async ({ collection, after, limit }) =>
      (await parked.list({ collection, after: placeOf(after), limit })).map(parkedAnswer),
    showParked: async (key) => parkedDetailAnswer(await parked.show(key)),
    retryParked: (key) => parked.retry(key),
    skipParked: (key) => parked.skip(key),
    collections: async () => (await collections.list(localAccess)).map(({ name }) => name),
    async *foreign(collection) {
      yield* await foreign.list(collection)
    },
    removeForeign: (collection, lines) => foreign.remove(collection, lines),
    close: () => context.close(),
  }
}

import { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import {
  ParkedAnswer,
  ParkedDetailAnswer,
  ParkedParams,
  ParkedQuery,
  RemoveForeignBody,
  RetryAnswer,
} from '../schemas/jobs.js'
import { NDJSON } from '../schemas/media-types.js'
import { Type } from '../schemas/type.js'
import { NamedCollectionParams, success } from '../schemas/wire.js'
import type { ForeignService } from '../services/foreign.js'
import { type ParkedService, parkedAnswer, parkedDetailAnswer, placeOf } from '../services/parked.js'
import { answers } from './answers.js'

export interface ParkedRoutesOptions {
  parked: ParkedService
  foreign: ForeignService
}

const tags = ['operation']

/** What the mirror refused (I6), and what in it is not ours. */
export const parkedRoutes: FastifyPluginAsyncTypebox<ParkedRoutesOptions> = async (
  app,
  { parked, foreign },
) => {
  app.get(
    '/dualstore/parked',
    {
      schema: {
        tags,
        operationId: 'listParked',
        summary: 'List parked documents, by collection and id',
        querystring: ParkedQuery,
        response: answers({ 200: success(Type.Array(ParkedAnswer)) }),
      },
    },
    async ({ query: { collection, after, limit } }) => {
      const records = await parked.list({ collection, after: placeOf(after), limit })
      return { success: true as const, data: records.map(parkedAnswer) }
    },
  )

  app.get(
    '/dualstore/parked/:collection/:id',
    {
      schema: {
        tags,
        operationId: 'getParked',
        summary: 'Show a parked document in both stores, with the reason and the differences',
        params: ParkedParams,
        response: answers({ 200: success(ParkedDetailAnswer) }),
      },
    },
    async (request) => ({
      success: true as const,
      data: parkedDetailAnswer(await parked.show(request.params)),
    }),
  )

  app.post(
    '/dualstore/parked/:collection/:id/retry',
    {
      schema: {
        tags,
        operationId: 'retryParked',
        summary: 'Give the mirror a parked document as it is now',
        params: ParkedParams,
        response: answers({ 200: success(RetryAnswer) }),
      },
    },
    async ({ params: { collection, id } }) => {
      const retried = await parked.retry({ collection, id })
      return { success: true as const, data: { collection, id, ...retried } }
    },
  )

  app.post(
    '/dualstore/parked/:collection/:id/skip',
    {
      schema: {
        tags,
        operationId: 'skipParked',
        summary: 'Leave a parked document as it is in the mirror until its next change',
        params: ParkedParams,
        response: answers({
          200: success(Type.Object({ collection: Type.String(), id: Type.String() })),
        }),
      },
    },
    async ({ params: { collection, id } }) => {
      await parked.skip({ collection, id })
      return { success: true as const, data: { collection, id } }
    },
  )

  app.get(
    '/dualstore/foreign/:name',
    {
      exposeHeadRoute: false,
      compress: {},
      schema: {
        tags,
        operationId: 'listForeign',
        summary: "Other programs' documents in the mirror, as NDJSON in canonical extended JSON",
        produces: [NDJSON],
        params: NamedCollectionParams,
        response: answers({ 200: Type.String({ description: 'One document a line' }) }),
      },
    },
    async (request, reply) => {
      const lines = await foreign.list(request.params.name)
      return reply.type(NDJSON).send(Readable.from(lines, { objectMode: false }))
    },
  )

  app.post(
    '/dualstore/foreign/:name/remove',
    {
      schema: {
        tags,
        operationId: 'removeForeign',
        summary: 'Delete those foreign documents that still are as these lines say',
        params: NamedCollectionParams,
        body: RemoveForeignBody,
        response: answers({ 200: success(Type.Object({ removed: Type.Integer() })) }),
      },
    },
    async (request) => ({
      success: true as const,
      data: { removed: await foreign.remove(request.params.name, request.body.lines) },
    }),
  )
}

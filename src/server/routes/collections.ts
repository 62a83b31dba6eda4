import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { CollectionInput } from '../schemas/collection.js'
import { Type } from '../schemas/type.js'
import { CollectionAnswerSchema, NamedCollectionParams, success } from '../schemas/wire.js'
import type { CollectionService } from '../services/collections.js'
import { answers, sendPosition } from './answers.js'

export interface CollectionRoutesOptions {
  collections: CollectionService
}

const tags = ['collections']
const ChangeQuery = Type.Object({
  allow_misfits: Type.Boolean({ default: false, description: 'Change although stored documents do not fit' }),
  dry_run: Type.Boolean({ default: false, description: 'Only tell which documents would not fit' }),
})
const MisfitsSchema = Type.Object({
  checked: Type.Integer(),
  count: Type.Integer(),
  sample: Type.Array(Type.Object({ id: Type.String(), field: Type.String(), message: Type.String() })),
})
const Changed = success(Type.Object({ collection: CollectionAnswerSchema, misfits: MisfitsSchema }))

/** Collections as data: custom ones behave like the three that are shipped. */
export const collectionRoutes: FastifyPluginAsyncTypebox<CollectionRoutesOptions> = async (
  app,
  { collections },
) => {
  app.get(
    '/collections',
    {
      schema: {
        tags,
        operationId: 'listCollections',
        summary: 'List collections',
        response: answers({ 200: success(Type.Array(CollectionAnswerSchema)) }),
      },
    },
    async (request) => ({ success: true as const, data: await collections.list(request.access) }),
  )

  app.post(
    '/collections',
    {
      schema: {
        tags,
        operationId: 'createCollection',
        summary: 'Make a collection',
        body: CollectionInput,
        response: answers({ 201: success(CollectionAnswerSchema) }),
      },
    },
    async (request, reply) => {
      const data = await collections.create(request.access, request.body)
      return reply.code(201).send({ success: true as const, data })
    },
  )

  app.get(
    '/collections/:name',
    {
      schema: {
        tags,
        operationId: 'getCollection',
        summary: 'Show a collection',
        params: NamedCollectionParams,
        response: answers({ 200: success(CollectionAnswerSchema) }),
      },
    },
    async (request) => ({
      success: true as const,
      data: await collections.show(request.access, request.params.name),
    }),
  )

  app.put(
    '/collections/:name',
    {
      schema: {
        tags,
        operationId: 'replaceCollection',
        summary: 'Replace the definition',
        params: NamedCollectionParams,
        querystring: ChangeQuery,
        body: CollectionInput,
        response: answers({ 200: Changed }),
      },
    },
    async (request) => ({
      success: true as const,
      data: await collections.replace(
        request.access,
        request.params.name,
        request.body,
        changeOptions(request.query),
      ),
    }),
  )

  app.patch(
    '/collections/:name',
    {
      schema: {
        tags,
        operationId: 'changeCollection',
        summary: 'Change members of the definition',
        params: NamedCollectionParams,
        querystring: ChangeQuery,
        body: Type.Partial(Type.Omit(CollectionInput, ['name']), { additionalProperties: false }),
        response: answers({ 200: Changed }),
      },
    },
    async (request) => ({
      success: true as const,
      data: await collections.modify(
        request.access,
        request.params.name,
        request.body,
        changeOptions(request.query),
      ),
    }),
  )

  app.delete(
    '/collections/:name',
    {
      schema: {
        tags,
        operationId: 'dropCollection',
        summary: 'Drop a collection with its documents',
        params: NamedCollectionParams,
        querystring: Type.Object({
          confirm: Type.Optional(Type.String({ description: 'The name again' })),
        }),
        response: answers({ 200: success(Type.Object({ name: Type.String(), deleted: Type.Integer() })) }),
      },
    },
    async (request, reply) => {
      const { name } = request.params
      const deleted = await collections.drop(request.access, name, request.query.confirm)
      sendPosition(reply, await collections.position())
      return { success: true as const, data: { name, deleted } }
    },
  )
}

function changeOptions(query: { allow_misfits: boolean; dry_run: boolean }) {
  return { allowMisfits: query.allow_misfits, dryRun: query.dry_run }
}

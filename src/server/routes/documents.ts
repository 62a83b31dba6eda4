import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply } from 'fastify'
import { JSON_PATCH, MERGE_PATCH } from '../schemas/media-types.js'
import { Type } from '../schemas/type.js'
import {
  Body,
  CollectionParams,
  CreateHeaders,
  DocumentParams,
  ItemSchema,
  ListQuery,
  Pagination,
  ProjectedItemSchema,
  ReadHeaders,
  success,
  WriteHeaders,
} from '../schemas/wire.js'
import type { CachedDocument } from '../services/document-cache.js'
import type { DocumentService } from '../services/documents.js'
import type { ListingService } from '../services/listing.js'
import { etagOf, parseEtags, preconditionOf } from '../services/precondition.js'
import { successText } from '../services/success.js'
import { answers, JSON_TYPE, sendPosition, sendSource, sendWritten } from './answers.js'
import { requiresRoom } from './room.js'

export interface DocumentRoutesOptions {
  documents: DocumentService
  listing: ListingService
}

const Written = success(ItemSchema)
const Deleted = success(Type.Object({ id: Type.String() }))
const tags = ['documents']

/** Documents of every collection: no route is written per collection. */
export const documentRoutes: FastifyPluginAsyncTypebox<DocumentRoutesOptions> = async (app, options) => {
  const { documents, listing } = options
  const hasRoom = requiresRoom(documents)

  app.get(
    '/:collection',
    {
      schema: {
        tags,
        operationId: 'list',
        summary: 'List documents',
        params: CollectionParams,
        querystring: ListQuery,
        headers: ReadHeaders,
        response: answers({
          200: Type.Object({
            success: Type.Literal(true),
            data: Type.Array(Type.Union([ItemSchema, ProjectedItemSchema])),
            pagination: Pagination,
          }),
        }),
      },
    },
    async (request, reply) => {
      const { collection } = request.params
      const page = await listing.list(request.access, collection, request.query, {
        from: request.headers['x-dualstore-read-from'],
        waitFor: request.headers['x-dualstore-wait-for'],
      })
      sendSource(reply, page)
      const data = `[${page.texts.join(',')}]`
      const body = `{"success":true,"data":${data},"pagination":${JSON.stringify(page.pagination)}}`
      return reply.type(JSON_TYPE).send(body)
    },
  )

  app.get(
    '/:collection/:id',
    {
      schema: {
        tags,
        operationId: 'get',
        summary: 'Read a document',
        params: DocumentParams,
        headers: ReadHeaders,
        response: answers({ 200: Written, 304: Type.Null({ description: 'Not modified' }) }),
      },
    },
    (request, reply) => {
      const { access, params, headers } = request
      const from = headers['x-dualstore-read-from']
      const waitFor = headers['x-dualstore-wait-for']
      if (from === undefined && waitFor === undefined) {
        const known = documents.recall(access, params)
        // Without a promise: there is nothing to wait for.
        if (known !== undefined) return sendDocument(reply, headers['if-none-match'], known)
      }
      return documents.get(access, params, { from, waitFor }).then((found) => {
        sendSource(reply, found)
        const { version, text } = found
        sendDocument(reply, headers['if-none-match'], {
          version,
          etag: etagOf(version),
          body: successText(text),
        })
        return reply
      })
    },
  )

  app.post(
    '/:collection',
    {
      onRequest: hasRoom,
      schema: {
        tags,
        operationId: 'create',
        summary: 'Create a document',
        params: CollectionParams,
        headers: CreateHeaders,
        body: Body,
        response: answers({ 201: Written }),
      },
    },
    async (request, reply) => {
      const written = await documents.create(request.access, request.params.collection, request.body, {
        consistency: request.headers['x-dualstore-consistency'],
        idempotencyKey: request.headers['idempotency-key'],
      })
      reply.header('location', `${request.url.split('?')[0]}/${encodeURIComponent(written.id)}`)
      return sendWritten(reply, 201, written)
    },
  )

  app.put(
    '/:collection/:id',
    {
      onRequest: hasRoom,
      schema: {
        tags,
        operationId: 'put',
        summary: 'Create or replace a document',
        params: DocumentParams,
        headers: WriteHeaders,
        body: Body,
        response: answers({ 200: Written, 201: Written }),
      },
    },
    async (request, reply) => {
      const written = await documents.put(request.access, request.params, request.body, {
        consistency: request.headers['x-dualstore-consistency'],
        precondition: preconditionOf(request.headers),
      })
      return sendWritten(reply, written.created ? 201 : 200, written)
    },
  )

  app.patch(
    '/:collection/:id',
    {
      onRequest: hasRoom,
      schema: {
        tags,
        operationId: 'patch',
        summary: 'Change parts of a document',
        description: `${MERGE_PATCH} or application/json: RFC 7396. ${JSON_PATCH}: RFC 6902.`,
        consumes: ['application/json', MERGE_PATCH, JSON_PATCH],
        params: DocumentParams,
        headers: WriteHeaders,
        body: Type.Union([Body, Type.Array(Type.Unknown())]),
        response: answers({ 200: Written }),
      },
    },
    async (request, reply) => {
      const kind = request.headers['content-type']?.trim().toLowerCase().startsWith(JSON_PATCH)
        ? 'json'
        : 'merge'
      const written = await documents.patch(
        request.access,
        request.params,
        { kind, body: request.body },
        {
          consistency: request.headers['x-dualstore-consistency'],
          precondition: preconditionOf(request.headers),
        },
      )
      return sendWritten(reply, 200, written)
    },
  )

  app.delete(
    '/:collection/:id',
    {
      onRequest: hasRoom,
      schema: {
        tags,
        operationId: 'delete',
        summary: 'Delete a document',
        params: DocumentParams,
        headers: WriteHeaders,
        response: answers({ 200: Deleted }),
      },
    },
    async (request, reply) => {
      const removed = await documents.remove(request.access, request.params, {
        consistency: request.headers['x-dualstore-consistency'],
        precondition: preconditionOf(request.headers),
      })
      sendPosition(reply, removed.position)
      return { success: true as const, data: { id: removed.id } }
    },
  )
}

/** The document, or 304 to who has this version of it. */
function sendDocument(
  reply: FastifyReply,
  ifNoneMatch: string | undefined,
  { version, etag, body }: CachedDocument,
): void {
  reply.header('etag', etag)
  // To be kept by who asked, and asked for again each time: that is what its ETag is for.
  reply.header('cache-control', 'private, no-cache')
  if (ifNoneMatch !== undefined && matchesEtag(ifNoneMatch, version)) reply.code(304).send()
  else reply.type(JSON_TYPE).send(body)
}

function matchesEtag(ifNoneMatch: string, version: number): boolean {
  const tags = parseEtags(ifNoneMatch, 'weak')
  return tags === '*' || tags.includes(version)
}

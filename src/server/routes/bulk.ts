import { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { DualstoreError } from '../errors.js'
import { BatchBody } from '../schemas/batch.js'
import { NDJSON } from '../schemas/media-types.js'
import { Type } from '../schemas/type.js'
import { CollectionParams, CreateHeaders, ReadHeaders, SelectionQuery } from '../schemas/wire.js'
import { type BatchResult, positionOf, runBatch } from '../services/batch.js'
import type { DocumentService } from '../services/documents.js'
import type { TransferService } from '../services/transfer.js'
import { answers, JSON_TYPE, sendPosition } from './answers.js'
import { requiresRoom } from './room.js'

export interface BulkRoutesOptions {
  documents: DocumentService
  transfer: TransferService
}

const tags = ['bulk']

const BatchAnswer = Type.Object({
  success: Type.Boolean({ description: 'true when every operation succeeded' }),
  data: Type.Array(
    Type.Object(
      { status: Type.Integer(), id: Type.Optional(Type.String()), version: Type.Optional(Type.Integer()) },
      { additionalProperties: true },
    ),
  ),
})

/** Many documents at once: batches with a result each, and NDJSON streamed out. */
export const bulkRoutes: FastifyPluginAsyncTypebox<BulkRoutesOptions> = async (app, options) => {
  const { documents, transfer } = options
  const hasRoom = requiresRoom(documents)

  app.post(
    '/:collection/batch',
    {
      onRequest: hasRoom,
      schema: {
        tags,
        operationId: 'batch',
        summary: 'Run operations with a result each',
        params: CollectionParams,
        headers: CreateHeaders,
        body: BatchBody,
        response: answers({ 200: BatchAnswer }),
      },
    },
    async (request, reply) => {
      const results = await runBatch(documents, request.access, {
        collection: request.params.collection,
        operations: request.body.operations,
        consistency: request.headers['x-dualstore-consistency'],
        idempotencyKey: request.headers['idempotency-key'],
      })
      sendPosition(reply, positionOf(results))
      return reply.type(JSON_TYPE).send(answerOf(results))
    },
  )

  app.get(
    '/:collection/export',
    {
      // A HEAD would read the whole collection for nothing.
      exposeHeadRoute: false,
      compress: {},
      schema: {
        tags,
        operationId: 'export',
        summary: 'Export as NDJSON',
        produces: [NDJSON],
        params: CollectionParams,
        querystring: SelectionQuery,
        headers: Type.Omit(ReadHeaders, ['if-none-match']),
        response: answers({ 200: Type.String({ description: 'One item a line, by ascending id' }) }),
      },
    },
    async (request, reply) => {
      const { collection } = request.params
      const { 'x-dualstore-read-from': from, 'x-dualstore-wait-for': waitFor } = request.headers
      const lines = await transfer.exportNdjson(request.access, collection, request.query, { from, waitFor })
      if (from === 'mirror') reply.header('x-dualstore-source', 'mirror')
      // Readable.from asks for the next page only when the socket has taken the one before.
      return reply.type(NDJSON).send(Readable.from(lines, { objectMode: false, highWaterMark: 1024 * 1024 }))
    },
  )
}

/** The whole answer. As bytes, because of a long text Fastify and Node would make three copies to send it. */
function answerOf(results: readonly BatchResult[]): Buffer {
  const success = results.every((result) => result.status < 400)
  let data = ''
  for (const result of results) data += data === '' ? resultText(result) : `,${resultText(result)}`
  return Buffer.from(`{"success":${success},"data":[${data}]}`)
}

function resultText({ status, answer }: BatchResult): string {
  if (answer instanceof DualstoreError) {
    const { error, message, code, details } = answer
    return JSON.stringify({ status, error, message, code, ...(details && { details }) })
  }
  const { text, ...known } = answer
  const head = JSON.stringify({ status, ...known })
  return text === undefined ? head : `${head.slice(0, -1)},"data":${text}}`
}

import { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { DualstoreError, invalid } from '../errors.js'
import { NDJSON } from '../schemas/media-types.js'
import { CollectionParams, ImportReportSchema } from '../schemas/wire.js'
import type { TransferService } from '../services/transfer.js'
import { answers } from './answers.js'

export interface ImportRoutesOptions {
  transfer: TransferService
  /** Largest line, in bytes. */
  maxLineBytes: number
}

const tags = ['bulk']

/** NDJSON streamed in. */
export const importRoutes: FastifyPluginAsyncTypebox<ImportRoutesOptions> = async (
  app,
  { transfer, maxLineBytes },
) => {
  // In this scope only, and nothing else in it: elsewhere a stream would pass for an object, and JSON sent here would
  // be buffered without a bound.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(NDJSON, (_request: FastifyRequest, payload, done) => done(null, payload))

  app.post(
    '/:collection/import',
    {
      // The stream is bounded by line, not as a whole.
      bodyLimit: Number.MAX_SAFE_INTEGER,
      schema: {
        tags,
        operationId: 'import',
        summary: 'Import NDJSON',
        description:
          'One item a line; ids and times in the lines are kept. Every line is reported by number if wrong.',
        consumes: [NDJSON],
        params: CollectionParams,
        querystring: Type.Object({
          on_conflict: Type.Union([Type.Literal('error'), Type.Literal('skip'), Type.Literal('replace')], {
            default: 'error',
            description: 'What to do with an id that is taken',
          }),
        }),
        response: answers({ 200: Type.Object({ success: Type.Boolean(), data: ImportReportSchema }) }),
      },
    },
    async (request, reply) => {
      if (request.headers['idempotency-key'] !== undefined) {
        throw invalid(
          'headers.idempotency-key',
          'is not for imports: ids in the lines and on_conflict=skip repeat one safely',
        )
      }
      const source = request.body
      if (!(source instanceof Readable)) throw new DualstoreError('UNSUPPORTED_MEDIA_TYPE', `send ${NDJSON}`)
      const report = await transfer
        .importNdjson(request.access, request.params.collection, source, {
          onConflict: request.query.on_conflict,
          maxLineBytes,
        })
        .catch((error: unknown) => {
          // What was not read of the body stands in the way of any further request on this connection.
          reply.header('connection', 'close')
          throw error
        })
      return { success: report.failed === 0, data: report }
    },
  )
}

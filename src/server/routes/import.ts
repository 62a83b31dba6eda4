import { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { DualstoreError, invalid } from '../errors.js'
import { NDJSON } from '../schemas/media-types.js'
import { Type } from '../schemas/type.js'
import { CollectionParams, CreateHeaders, ImportReportSchema } from '../schemas/wire.js'
import type { TransferService } from '../services/transfer.js'
import { answers, sendPosition } from './answers.js'

export interface ImportRoutesOptions {
  transfer: TransferService
  /** Largest line, in bytes. */
  maxLineBytes: number
}

const tags = ['bulk']

/** Documents with ids of their own shrink to no less than a hundredth. */
const MAX_RATIO = 250
/** What may come of little all the same. */
const FREE_BYTES = 16 * 1024 * 1024

/** A compressed body as it expands. @throws PAYLOAD_TOO_LARGE when a little of it would keep the server busy for long */
async function* expanded(source: Readable & { bytesWritten?: number }): AsyncGenerator<Buffer> {
  let bytes = 0
  for await (const chunk of source as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > FREE_BYTES + MAX_RATIO * (source.bytesWritten ?? 0)) {
      throw new DualstoreError(
        'PAYLOAD_TOO_LARGE',
        `the body expands to more than ${MAX_RATIO} times its size; what was read before is written`,
      )
    }
    yield chunk
  }
}

/** NDJSON streamed in. */
export const importRoutes: FastifyPluginAsyncTypebox<ImportRoutesOptions> = async (
  app,
  { transfer, maxLineBytes },
) => {
  // In this scope only, and nothing else in it: elsewhere a stream would pass for an object, and JSON sent here would
  // be buffered without a bound.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(NDJSON, (request: FastifyRequest, payload, done) =>
    done(null, payload === request.raw ? payload : Readable.from(expanded(payload), { objectMode: false })),
  )

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
        headers: Type.Pick(CreateHeaders, ['x-dualstore-consistency']),
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
          consistency: request.headers['x-dualstore-consistency'],
        })
        .catch((error: unknown) => {
          // What was not read of the body stands in the way of any further request on this connection.
          reply.header('connection', 'close')
          throw error
        })
      sendPosition(reply, report.position)
      return { success: report.failed === 0, data: report }
    },
  )
}

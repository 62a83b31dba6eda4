import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { DualstoreError, invalid } from '../errors.js'
import { EVENT_STREAM } from '../schemas/media-types.js'
import { Type } from '../schemas/type.js'
import { ChangeEvent, ChangesQuery, CollectionParams, StreamHeaders, StreamQuery } from '../schemas/wire.js'
import type { StreamService } from '../services/streams.js'
import { answers, JSON_TYPE } from './answers.js'
import { sendEventStream } from './event-stream.js'

export interface StreamingRoutesOptions {
  streams: StreamService
  /** SSE_ENABLED of the legacy server. */
  enabled: boolean
  /** For clients that do not ask for one. */
  defaultFormat: 'named' | 'message'
}

const tags = ['streams']

const ChangesAnswer = Type.Object({
  success: Type.Literal(true),
  data: Type.Array(ChangeEvent),
  position: Type.String({ description: 'The next `since`' }),
  has_more: Type.Boolean(),
})

const events = { 200: Type.String({ description: 'Server-sent events, see docs/streams.md' }) }

/** The change log for clients: server-sent events and polling. */
export const streamingRoutes: FastifyPluginAsyncTypebox<StreamingRoutesOptions> = async (app, options) => {
  const { streams, enabled, defaultFormat } = options

  app.get(
    '/stream/:collection',
    {
      exposeHeadRoute: false,
      config: { queryToken: true },
      schema: {
        tags,
        operationId: 'streamCollection',
        summary: 'Stream the changes of one collection',
        produces: [EVENT_STREAM],
        params: CollectionParams,
        querystring: Type.Omit(StreamQuery, ['collections']),
        headers: StreamHeaders,
        response: answers(events),
      },
    },
    async (request, reply) => open(request, reply, [request.params.collection], request.query),
  )

  app.get(
    '/stream',
    {
      exposeHeadRoute: false,
      config: { queryToken: true },
      schema: {
        tags,
        operationId: 'stream',
        summary: 'Stream the changes of several collections, or of all',
        produces: [EVENT_STREAM],
        querystring: StreamQuery,
        headers: StreamHeaders,
        response: answers(events),
      },
    },
    async (request, reply) => open(request, reply, namesOf(request.query.collections), request.query),
  )

  app.get(
    '/:collection/changes',
    {
      exposeHeadRoute: false,
      schema: {
        tags,
        operationId: 'changes',
        summary: 'The changes behind a position, or wait for them',
        params: CollectionParams,
        querystring: ChangesQuery,
        response: answers({ 200: ChangesAnswer }),
      },
    },
    async (request, reply) => {
      const { since, limit, wait } = request.query
      const page = await streams.changes(request.access, {
        collections: [request.params.collection],
        query: request.query,
        since,
        limit,
        waitMs: wait * 1000,
        signal: whenGone(reply),
      })
      const { texts, position, hasMore } = page
      return reply
        .type(JSON_TYPE)
        .send(`{"success":true,"data":[${texts.join(',')}],"position":"${position}","has_more":${hasMore}}`)
    },
  )

  async function open(
    request: FastifyRequest,
    reply: FastifyReply,
    collections: readonly string[] | undefined,
    query: Omit<StreamQuery, 'collections'>,
  ): Promise<FastifyReply> {
    if (!enabled) throw new DualstoreError('NOT_FOUND', 'streams are switched off (SSE_ENABLED)')
    // The schema says string; an EventSource that has not received anything sends none.
    const given = request.headers['last-event-id']
    const connect = await streams.open(request.access, {
      collections,
      query,
      format: query.format ?? defaultFormat,
      lastEventId: typeof given === 'string' && given !== '' ? given : undefined,
      since: query.last_event_id,
      snapshot: query.from === 'snapshot' || query.created_after !== undefined,
      owner: request.ip,
    })
    sendEventStream(reply, connect)
    return reply
  }
}

function namesOf(list: string | undefined): string[] | undefined {
  if (list === undefined) return undefined
  const names = list.split(',').map((name) => name.trim())
  if (names.some((name) => name === ''))
    throw invalid('query.collections', 'must be names with commas between')
  return names
}

/** Aborted when the client goes away before it is answered. */
function whenGone({ raw }: FastifyReply): AbortSignal {
  const gone = new AbortController()
  raw.once('close', () => gone.abort())
  return gone.signal
}

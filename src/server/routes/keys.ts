import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import {
  AuditEntryAnswer,
  AuditListQuery,
  KeyAnswer,
  KeyInput,
  KeyParams,
  NewKeyAnswer,
  PruneInput,
  RotateInput,
} from '../schemas/key.js'
import { OVERLAP_SECONDS, PRUNE_SECONDS } from '../schemas/key-defaults.js'
import { Type } from '../schemas/type.js'
import { success } from '../schemas/wire.js'
import type { AuditService } from '../services/audit.js'
import type { KeyService } from '../services/keys.js'
import { answers } from './answers.js'

export interface KeyRoutesOptions {
  keys: KeyService
  audit: AuditService
}

const tags = ['keys']
const AuditPage = Type.Object({
  success: Type.Literal(true),
  data: Type.Array(AuditEntryAnswer),
  pagination: Type.Object({
    limit: Type.Integer(),
    next_cursor: Type.Union([Type.String(), Type.Null()], { description: 'null at the end' }),
  }),
})

/** API keys, and the audit of what was done to keys and collections. */
export const keyRoutes: FastifyPluginAsyncTypebox<KeyRoutesOptions> = async (app, { keys, audit }) => {
  // What a proxy or a browser keeps must never be a key, nor is it compressed (plugins/compression.ts).
  app.addHook('onRequest', (_request, reply, done) => {
    reply.header('cache-control', 'no-store')
    done()
  })

  app.post(
    '/keys',
    {
      schema: {
        tags,
        operationId: 'createKey',
        summary: 'Make a key, which is told this once',
        body: KeyInput,
        response: answers({ 201: success(NewKeyAnswer) }),
      },
    },
    async (request, reply) => {
      const data = await keys.create(request.access, request.body)
      return reply.code(201).send({ success: true as const, data })
    },
  )

  app.get(
    '/keys',
    {
      schema: {
        tags,
        operationId: 'listKeys',
        summary: 'List the keys within your own rights',
        response: answers({ 200: success(Type.Array(KeyAnswer)) }),
      },
    },
    async (request) => ({ success: true as const, data: await keys.list(request.access) }),
  )

  app.get(
    '/keys/:id',
    {
      schema: {
        tags,
        operationId: 'getKey',
        summary: 'Show a key',
        params: KeyParams,
        response: answers({ 200: success(KeyAnswer) }),
      },
    },
    async (request) => ({ success: true as const, data: await keys.show(request.access, request.params.id) }),
  )

  app.delete(
    '/keys/:id',
    {
      schema: {
        tags,
        operationId: 'revokeKey',
        summary: 'Revoke a key, on every instance within a second',
        params: KeyParams,
        response: answers({ 200: success(KeyAnswer) }),
      },
    },
    async (request) => ({
      success: true as const,
      data: await keys.revoke(request.access, request.params.id),
    }),
  )

  app.post(
    '/keys/:id/rotate',
    {
      schema: {
        tags,
        operationId: 'rotateKey',
        summary: 'Give a key another secret; the present one stays good for a while',
        params: KeyParams,
        body: RotateInput,
        response: answers({ 200: success(NewKeyAnswer) }),
      },
    },
    async (request) => {
      const seconds = request.body?.overlap_seconds ?? OVERLAP_SECONDS
      const data = await keys.rotate(request.access, request.params.id, seconds * 1000)
      return { success: true as const, data }
    },
  )

  app.post(
    '/keys/prune',
    {
      schema: {
        tags,
        operationId: 'pruneKeys',
        summary: 'Remove keys that ended some time ago',
        body: PruneInput,
        response: answers({ 200: success(Type.Object({ ids: Type.Array(Type.String()) })) }),
      },
    },
    async (request) => {
      const seconds = request.body?.older_than_seconds ?? PRUNE_SECONDS
      const ids = await keys.prune(request.access, seconds * 1000)
      return { success: true as const, data: { ids } }
    },
  )

  app.get(
    '/audit',
    {
      exposeHeadRoute: false,
      schema: {
        tags,
        operationId: 'listAudit',
        summary: 'Who did what to keys and collections, the newest first',
        querystring: AuditListQuery,
        response: answers({ 200: AuditPage }),
      },
    },
    async (request) => {
      const page = await audit.list(request.access, request.query)
      const pagination = { limit: request.query.limit, next_cursor: page.nextCursor }
      return { success: true as const, data: page.entries, pagination }
    },
  )
}

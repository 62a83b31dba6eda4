import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { TokenAnswer, TokenBody } from '../schemas/token.js'
import { success } from '../schemas/wire.js'
import type { TokenService } from '../services/tokens.js'
import { answers } from './answers.js'

export interface TokenRoutesOptions {
  tokens: TokenService
}

/** Short tokens in place of keys. */
export const tokenRoutes: FastifyPluginAsyncTypebox<TokenRoutesOptions> = async (app, { tokens }) => {
  app.post(
    '/auth/token',
    {
      schema: {
        tags: ['keys'],
        operationId: 'createToken',
        summary: 'Change a key for a short token with the same rights or less',
        body: TokenBody,
        response: answers({ 200: success(TokenAnswer) }),
      },
    },
    async (request, reply) => {
      const data = await tokens.issue(request.access, request.body ?? {})
      return reply.header('cache-control', 'no-store').send({ success: true as const, data })
    },
  )
}

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { DualstoreError } from '../errors.js'
import { shippedCollections } from '../schemas/shipped-collections.js'
import { Type } from '../schemas/type.js'
import type { ListingService } from '../services/listing.js'
import { covers } from '../services/principal.js'
import { answers } from './answers.js'

export interface IndexRoutesOptions {
  apiPrefix: string
  version: string
  listing: ListingService
  /** Whether stored documents may be shown without further rights: the legacy server showed them to anyone (defect 10). */
  debugAllowed: boolean
}

/** What stands outside the API prefix. */
export const indexRoutes: FastifyPluginAsyncTypebox<IndexRoutesOptions> = async (app, options) => {
  const { apiPrefix, version, listing, debugAllowed } = options

  app.get(
    '/',
    {
      schema: {
        tags: ['index'],
        operationId: 'index',
        summary: 'What this server is',
        response: {
          200: Type.Object({
            name: Type.String(),
            description: Type.String(),
            version: Type.String(),
            endpoints: Type.Object({
              collections: Type.String(),
              streaming: Type.String(),
              health: Type.String(),
            }),
          }),
        },
      },
    },
    async () => ({
      name: 'dualstore',
      description: 'Agent data in PostgreSQL, mirrored into MongoDB',
      version,
      endpoints: { collections: apiPrefix, streaming: `${apiPrefix}/stream`, health: '/health' },
    }),
  )

  app.get(
    '/debug/dualstore-data',
    {
      schema: {
        tags: ['index'],
        operationId: 'debugData',
        summary: 'The ten newest documents of each legacy collection as the mirror holds them',
        response: answers({ 200: Type.Record(Type.String(), Type.Array(Type.Unknown())) }),
      },
    },
    async ({ access }) => {
      if (!debugAllowed) {
        throw new DualstoreError(
          'FORBIDDEN',
          'needs authentication, or a server that listens on a loopback address',
        )
      }
      const names = shippedCollections
        .map(({ name }) => name)
        .filter((name) => covers(access.principal, 'read', name))
      const entries = names.map(async (name) => [name, await listing.recentRaw(access, name, 10)] as const)
      return Object.fromEntries(await Promise.all(entries))
    },
  )
}

import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import type { Config } from '../config/index.js'
import type { CollectionService } from '../services/collections.js'
import { describeCollections } from './openapi-collections.js'

// Everything from here and nothing else; inline styles are how the UI draws.
const CONTENT_SECURITY_POLICY =
  "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; frame-ancestors 'none'"

/** OpenAPI 3.1 at `<path>/json` and its UI at `<path>`, all files served from here. Register before the routes. */
export async function registerOpenApi(
  app: FastifyInstance,
  config: Config,
  collections: CollectionService,
): Promise<void> {
  if (!config.openapiEnabled) return
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'dualstore',
        description: 'Agent data in PostgreSQL, mirrored into MongoDB in the legacy shape.',
        version: config.apiVersion,
        license: { name: 'MIT', identifier: 'MIT' },
      },
      servers: [{ url: '/' }],
    },
  })
  await app.register(swaggerUi, {
    routePrefix: config.openapiPath,
    staticCSP: CONTENT_SECURITY_POLICY,
    uiConfig: { validatorUrl: null },
    // The document is written anew for each request: a custom collection is in it at once.
    transformSpecification: (document, request) =>
      describeCollections(document, collections.known(request.access)),
    transformSpecificationClone: true,
  })
}

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { DocumentAuditEntry, DocumentAuditQuery } from '../schemas/document-audit.js'
import { Type } from '../schemas/type.js'
import type { DocumentAuditService } from '../services/document-audit.js'
import { answers } from './answers.js'

export interface DocumentAuditRoutesOptions {
  documentAudit: DocumentAuditService
}

/** Who changed which document. */
export const documentAuditRoutes: FastifyPluginAsyncTypebox<DocumentAuditRoutesOptions> = async (
  app,
  { documentAudit },
) => {
  app.get(
    '/audit/documents',
    {
      exposeHeadRoute: false,
      schema: {
        tags: ['audit'],
        operationId: 'auditDocuments',
        summary: 'Who changed documents, when and from where; the newest first',
        querystring: DocumentAuditQuery,
        response: answers({
          200: Type.Object({
            success: Type.Literal(true),
            data: Type.Array(DocumentAuditEntry),
            pagination: Type.Object({
              limit: Type.Integer(),
              next_cursor: Type.Union([Type.String(), Type.Null()], { description: 'null at the end' }),
            }),
          }),
        }),
      },
    },
    async (request) => {
      const page = await documentAudit.listDocumentChanges(request.access, request.query)
      const pagination = { limit: request.query.limit, next_cursor: page.nextCursor }
      return { success: true as const, data: page.entries, pagination }
    },
  )
}

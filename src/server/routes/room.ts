import type { onRequestHookHandler } from 'fastify'
import type { DocumentService } from '../services/documents.js'

/** Refuses a write that has no room before its body is read, parsed and checked: refusing must cost the least of all. */
export function requiresRoom({ requireRoom }: Pick<DocumentService, 'requireRoom'>): onRequestHookHandler {
  return (_request, _reply, done) => {
    requireRoom()
    done()
  }
}

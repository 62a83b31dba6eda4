import type { Static } from 'typebox'
import { Type } from './type.js'

export const DocumentAuditQuery = Type.Object({
  since: Type.Optional(Type.String({ description: 'ISO 8601; only changes from this moment on' })),
  key: Type.Optional(
    Type.String({ maxLength: 100, description: 'Only what this key wrote, or tokens made with it' }),
  ),
  author: Type.Optional(
    Type.String({ maxLength: 1000, description: 'Only what this principal wrote, such as ingest:opencode' }),
  ),
  collection: Type.Optional(Type.String({ maxLength: 100 })),
  id: Type.Optional(Type.String({ maxLength: 512, description: 'Of a document' })),
  limit: Type.Integer({ minimum: 1, maximum: 1000, default: 100 }),
  cursor: Type.Optional(Type.String({ maxLength: 20, description: 'next_cursor of the page before' })),
})
export type DocumentAuditQuery = Static<typeof DocumentAuditQuery>

export const DocumentAuditEntry = Type.Object({
  at: Type.String({ format: 'date-time' }),
  author: Type.Union([Type.String(), Type.Null()], {
    description: 'local, everyone, legacy, key:<id>, …; null for what was written past the program',
  }),
  address: Type.Union([Type.String(), Type.Null()], { description: 'null for the command line' }),
  collection: Type.String(),
  id: Type.String(),
  op: Type.Union([Type.Literal('insert'), Type.Literal('update'), Type.Literal('delete')]),
  version: Type.Integer(),
  position: Type.String({ description: 'In the change log' }),
})
export type DocumentAuditEntry = Static<typeof DocumentAuditEntry>

import type { Static, TSchema } from 'typebox'
import { CollectionDefinition, CollectionName } from './collection.js'
import { Type } from './type.js'

/** Text that PostgreSQL can be given: it refuses U+0000. */
export const storableText = (
  options: { minLength?: number; maxLength?: number; description?: string } = {},
) => Type.String({ minLength: 1, pattern: '^[^\\u0000]*$', ...options })

/** An item as it is answered; a collection's own schema says more about it in the OpenAPI document. */
export const ItemSchema = Type.Object(
  {
    id: Type.String(),
    created_at: Type.String({ format: 'date-time' }),
    updated_at: Type.String({ format: 'date-time' }),
  },
  { additionalProperties: true },
)

/** An item of a list that was asked for with `fields`. */
export const ProjectedItemSchema = Type.Object(
  { id: Type.String() },
  { additionalProperties: true, description: 'With `fields`: those of them that the document has' },
)

export const ErrorAnswer = Type.Object(
  {
    success: Type.Literal(false),
    error: Type.String({ description: 'Short text; the legacy one where legacy clients compare it' }),
    message: Type.Optional(Type.String({ description: 'What is wrong and what to do' })),
    code: Type.String({ description: 'Stable code, listed in docs/errors.md' }),
    details: Type.Optional(
      Type.Array(
        Type.Object({ field: Type.String(), message: Type.String() }, { additionalProperties: false }),
      ),
    ),
    requestId: Type.String(),
  },
  { additionalProperties: true },
)

/** `{success: true, data}` around whatever a route answers. */
export function success<T extends TSchema>(data: T) {
  return Type.Object({ success: Type.Literal(true), data }, { additionalProperties: true })
}

export const Pagination = Type.Object({
  total: Type.Union([Type.Integer(), Type.Null()], { description: 'null with count=none' }),
  limit: Type.Integer(),
  offset: Type.Integer(),
  has_more: Type.Boolean(),
  next_cursor: Type.Union([Type.String(), Type.Null()], { description: 'null at the end' }),
})

export const CollectionParams = Type.Object({ collection: Type.String() })
export const NamedCollectionParams = Type.Object({ name: CollectionName })
export const DocumentParams = Type.Object({ collection: Type.String(), id: Type.String({ minLength: 1 }) })

/** Which documents: the parameters that lists and exports share. */
export const SelectionQuery = Type.Object({
  session_id: Type.Optional(Type.String({ description: 'session_id equal to this' })),
  created_after: Type.Optional(Type.String({ description: 'ISO 8601; created_at at or after' })),
  created_before: Type.Optional(Type.String({ description: 'ISO 8601; created_at at or before' })),
  filter: Type.Optional(
    Type.String({
      description:
        'JSON in a subset of the MongoDB query language: {"status": {"$in": ["pending", "running"]}}',
    }),
  ),
  q: Type.Optional(Type.String({ minLength: 1, maxLength: 1000, description: 'Full text of every string' })),
})

export const ListQuery = Type.Object({
  ...SelectionQuery.properties,
  limit: Type.Integer({ minimum: 1, maximum: 1000, default: 50 }),
  offset: Type.Integer({ minimum: 0, maximum: 1_000_000_000, default: 0 }),
  sort_by: Type.String({
    minLength: 1,
    maxLength: 200,
    default: 'created_at',
    description: 'Any field of the item',
  }),
  sort_order: Type.Union([Type.Literal('asc'), Type.Literal('desc')], { default: 'desc' }),
  cursor: Type.Optional(Type.String({ maxLength: 8192, description: 'next_cursor of the page before' })),
  count: Type.Union([Type.Literal('exact'), Type.Literal('estimated'), Type.Literal('none')], {
    default: 'exact',
    description: 'How `total` is found',
  }),
  fields: Type.Optional(
    Type.String({ maxLength: 4000, description: 'Comma-separated fields to answer; id always comes' }),
  ),
})

/** Which changes, and from where on. */
export const StreamQuery = Type.Object({
  ...SelectionQuery.properties,
  collections: Type.Optional(
    Type.String({ maxLength: 4000, description: 'Comma-separated; all without it, those made later too' }),
  ),
  last_event_id: Type.Optional(
    Type.String({ maxLength: 100, description: 'Start behind this position; the header Last-Event-ID wins' }),
  ),
  access_token: Type.Optional(
    Type.String({
      maxLength: 8192,
      description: 'A token made for a stream of this collection, for clients that can send no headers',
    }),
  ),
  from: Type.Union([Type.Literal('now'), Type.Literal('snapshot')], {
    default: 'now',
    description: 'snapshot: the matching documents first; created_after implies it',
  }),
  format: Type.Optional(
    Type.Union([Type.Literal('named'), Type.Literal('message')], {
      description:
        'message: without event names, for onmessage. Unset: as the server is set, named by default',
    }),
  ),
})

export const StreamHeaders = Type.Object({
  'last-event-id': Type.Optional(Type.String({ description: 'The id of the last event that was received' })),
})

export const ChangesQuery = Type.Object({
  ...SelectionQuery.properties,
  since: Type.Optional(
    Type.String({
      maxLength: 100,
      description: 'The position of the answer before; without it, from now on',
    }),
  ),
  limit: Type.Integer({ minimum: 1, maximum: 1000, default: 100 }),
  wait: Type.Number({ minimum: 0, maximum: 60, default: 0, description: 'Seconds to wait for a change' }),
})

/** A change as streams and polls tell it. */
export const ChangeEvent = Type.Object({
  type: Type.Union([Type.Literal('insert'), Type.Literal('update'), Type.Literal('delete')]),
  collection: Type.String(),
  data: ItemSchema,
  timestamp: Type.String({ format: 'date-time' }),
  version: Type.Integer(),
  position: Type.String(),
})

const Consistency = Type.Optional(Type.Union([Type.Literal('strict'), Type.Literal('eventual')]))

export const ReadHeaders = Type.Object({
  'x-dualstore-wait-for': Type.Optional(
    Type.String({ description: 'A position the store must have reached' }),
  ),
  'x-dualstore-read-from': Type.Optional(Type.Union([Type.Literal('postgres'), Type.Literal('mirror')])),
  'if-none-match': Type.Optional(Type.String()),
})

export const CreateHeaders = Type.Object({
  'x-dualstore-consistency': Consistency,
  'idempotency-key': Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 255,
      description: 'Repeating the request with it repeats nothing',
    }),
  ),
})

export const WriteHeaders = Type.Object({
  'x-dualstore-consistency': Consistency,
  'if-match': Type.Optional(Type.String({ description: 'The ETag the document must have' })),
  'if-none-match': Type.Optional(Type.String({ description: '* for: only when it does not exist' })),
})

export const Body = Type.Record(Type.String(), Type.Unknown())

export const ImportReportSchema = Type.Object({
  position: Type.Union([Type.String(), Type.Null()], {
    description: 'From where on all of it is visible; null when nothing was written',
  }),
  received: Type.Integer(),
  created: Type.Integer(),
  replaced: Type.Integer(),
  skipped: Type.Integer(),
  failed: Type.Integer(),
  errors: Type.Array(
    Type.Object({
      line: Type.Integer(),
      id: Type.Optional(Type.String()),
      field: Type.String(),
      message: Type.String(),
    }),
  ),
})

export const CollectionAnswerSchema = Type.Object(
  {
    ...CollectionDefinition.properties,
    shipped: Type.Boolean(),
    version: Type.Integer(),
    created_at: Type.String(),
    updated_at: Type.String(),
    documents: Type.Integer({ description: 'Counted for one collection; an estimate in the list' }),
  },
  { additionalProperties: true },
)

export type SelectionQuery = Static<typeof SelectionQuery>
export type ListQuery = Static<typeof ListQuery>
export type StreamQuery = Static<typeof StreamQuery>
export type Pagination = Static<typeof Pagination>

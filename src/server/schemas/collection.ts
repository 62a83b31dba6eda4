import type { Static } from 'typebox'
import { Type } from './type.js'

/** Path segments under the API prefix that a collection's name must not hide (design: reserved names). */
export const RESERVED_COLLECTION_NAMES = [
  'collections',
  'stream',
  'dualstore',
  'auth',
  'keys',
  'audit',
] as const

/** Path segments under a collection that a document's id must not hide. */
export const RESERVED_DOCUMENT_IDS = ['batch', 'import', 'export', 'changes'] as const

/** Fields that only the server sets; a collection's schema describes the others. */
export const SERVER_FIELDS = ['id', 'created_at', 'updated_at'] as const

const FieldPath = Type.String({
  pattern: '^[^.$\\u0000]+(\\.[^.$\\u0000]+)*$',
  maxLength: 200,
  description: 'A field of the item, nested ones with dots: session_id, metadata.model',
})

export const CollectionName = Type.String({
  pattern: '^[a-z][a-z0-9_]{0,49}$',
  description: 'Lower-case letters, digits and underscores; starts with a letter; at most 50',
})

export const CollectionIndex = Type.Union([
  Type.Object(
    { fields: Type.Array(FieldPath, { minItems: 1, maxItems: 4, uniqueItems: true }) },
    {
      additionalProperties: false,
      description: 'Finds by these fields, from the first on; created_at behind them also orders',
    },
  ),
  Type.Object(
    { type: Type.Literal('text') },
    {
      additionalProperties: false,
      description: 'Full text of every string in the item, for the parameter q',
    },
  ),
])
export type CollectionIndex = Static<typeof CollectionIndex>

export const MirrorMapping = Type.Object(
  {
    collection: Type.String({
      pattern: '^[A-Za-z0-9_.-]{1,60}$',
      description: 'Name in MongoDB behind the prefix; the collection name by default',
    }),
    text: Type.Union([FieldPath, Type.Null()], {
      description: 'Top-level field that becomes `text`; null leaves the text empty',
    }),
    metadata: Type.Record(Type.String(), Type.String(), {
      description: 'Top-level item field → its name under `metadata`',
    }),
    spread: Type.Union([Type.String(), Type.Null()], {
      description: 'Top-level object field whose keys are spread beside the others under `metadata`',
    }),
  },
  { additionalProperties: false },
)
export type MirrorMapping = Static<typeof MirrorMapping>

const JsonSchema = Type.Record(Type.String(), Type.Unknown(), {
  description: 'JSON Schema (draft 07) of an item without id, created_at and updated_at',
})

/** A collection as it is stored and used: every member decided. Shipped and custom ones are the same thing. */
export const CollectionDefinition = Type.Object(
  {
    name: CollectionName,
    label: Type.String({
      minLength: 1,
      maxLength: 60,
      description: 'One of its documents, for messages: Agent task',
    }),
    schema: JsonSchema,
    id_prefix: Type.String({
      pattern: '^[A-Za-z0-9-]{1,20}$',
      description: 'Generated ids start with it and _',
    }),
    indexes: Type.Array(CollectionIndex, { maxItems: 16 }),
    mirror: MirrorMapping,
  },
  { additionalProperties: false },
)
export type CollectionDefinition = Static<typeof CollectionDefinition>

/** What POST /collections takes: the rest is filled in. */
export const CollectionInput = Type.Object(
  {
    name: CollectionName,
    schema: JsonSchema,
    label: Type.Optional(CollectionDefinition.properties.label),
    id_prefix: Type.Optional(CollectionDefinition.properties.id_prefix),
    indexes: Type.Optional(CollectionDefinition.properties.indexes),
    mirror: Type.Optional(Type.Partial(MirrorMapping, { additionalProperties: false })),
  },
  { additionalProperties: false },
)
export type CollectionInput = Static<typeof CollectionInput>

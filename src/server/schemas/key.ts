import type { Static } from 'typebox'
import { OVERLAP_SECONDS, PRUNE_SECONDS } from './key-defaults.js'
import { Type } from './type.js'

export const RoleSchema = Type.Union(
  [Type.Literal('reader'), Type.Literal('writer'), Type.Literal('admin')],
  {
    description: 'reader reads, writer writes too, admin manages collections and keys too',
  },
)

export const Patterns = Type.Array(
  Type.String({
    pattern: '^[a-z0-9_*]{1,60}$',
    description: 'Name of a collection, or a pattern in which * stands for any characters',
  }),
  { maxItems: 100 },
)

const Scopes = Type.Object({ read: Patterns, write: Patterns }, { additionalProperties: false })

export const RowFilter = Type.Record(Type.String(), Type.Unknown(), {
  description: 'A filter in the language of lists: only documents that pass are seen and written',
})

/** What POST /keys takes. */
export const KeyInput = Type.Object(
  {
    name: Type.String({
      pattern: '^[^\\u0000-\\u001f\\u007f]{1,100}$',
      description: 'What it is for, for people',
    }),
    role: RoleSchema,
    scopes: Type.Optional(
      Type.Partial(Scopes, {
        additionalProperties: false,
        description: "The maker's own by default; a reader writes none",
      }),
    ),
    rows: Type.Optional(Type.Union([RowFilter, Type.Null()])),
    expires_at: Type.Optional(
      Type.Union([Type.String(), Type.Null()], { description: 'ISO 8601; never by default' }),
    ),
  },
  { additionalProperties: false },
)
export type KeyInput = Static<typeof KeyInput>

const Time = Type.Union([Type.String({ format: 'date-time' }), Type.Null()])

/** A key as it is told: nothing of its secret. */
export const KeyAnswer = Type.Object({
  id: Type.String(),
  name: Type.String(),
  role: RoleSchema,
  scopes: Scopes,
  rows: Type.Union([RowFilter, Type.Null()]),
  status: Type.Union([Type.Literal('active'), Type.Literal('expired'), Type.Literal('revoked')]),
  created_at: Type.String({ format: 'date-time' }),
  created_by: Type.String({ description: 'The principal that made it, as in the audit' }),
  expires_at: Time,
  last_used_at: Type.Union([Type.String({ format: 'date-time' }), Type.Null()], {
    description: 'To the minute',
  }),
  revoked_at: Time,
  previous_secret_until: Type.Union([Type.String({ format: 'date-time' }), Type.Null()], {
    description: 'How long the secret before the last rotation is good',
  }),
})
export type KeyAnswer = Static<typeof KeyAnswer>

/** The same with the key itself, told this once. */
export const NewKeyAnswer = Type.Object({
  ...KeyAnswer.properties,
  key: Type.String({ description: 'The key; it cannot be shown again' }),
})
export type NewKeyAnswer = Static<typeof NewKeyAnswer>

const DAY_SECONDS = 86_400
// Both may be left out, which reaches the validator as null.
export const RotateInput = Type.Union([
  Type.Object(
    {
      overlap_seconds: Type.Optional(
        Type.Integer({
          minimum: 0,
          maximum: 30 * DAY_SECONDS,
          default: OVERLAP_SECONDS,
          description: 'How long the present secret stays good beside the new one; 0 ends it at once',
        }),
      ),
    },
    { additionalProperties: false },
  ),
  Type.Null(),
])

export const PruneInput = Type.Union([
  Type.Object(
    {
      older_than_seconds: Type.Optional(
        Type.Integer({
          minimum: 0,
          maximum: 100 * 366 * DAY_SECONDS,
          default: PRUNE_SECONDS,
          description: 'Remove the keys that were revoked or expired at least so long ago',
        }),
      ),
    },
    { additionalProperties: false },
  ),
  Type.Null(),
])

export const KeyParams = Type.Object({ id: Type.String({ pattern: '^[0-9A-Za-z]{12}$' }) })

export const AuditListQuery = Type.Object({
  since: Type.Optional(Type.String({ description: 'ISO 8601; only entries from this moment on' })),
  key: Type.Optional(
    Type.String({ maxLength: 100, description: 'Only what this key did, or what was done to it' }),
  ),
  limit: Type.Integer({ minimum: 1, maximum: 1000, default: 100 }),
  cursor: Type.Optional(Type.String({ maxLength: 20, description: 'next_cursor of the page before' })),
})
export type AuditListQuery = Static<typeof AuditListQuery>

export const AuditEntryAnswer = Type.Object({
  at: Type.String({ format: 'date-time' }),
  actor: Type.String({ description: 'local, everyone, legacy, key:<id> or token:<issuer>:<subject>' }),
  key_id: Type.Union([Type.String(), Type.Null()]),
  address: Type.Union([Type.String(), Type.Null()]),
  action: Type.String({ description: 'Such as key.create or collection.drop' }),
  target: Type.Union([Type.String(), Type.Null()], { description: "The key's id or the collection's name" }),
  details: Type.Record(Type.String(), Type.Unknown()),
})
export type AuditEntryAnswer = Static<typeof AuditEntryAnswer>

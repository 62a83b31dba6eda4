import type { Static } from 'typebox'
import { CollectionName } from './collection.js'
import { Patterns, RoleSchema, RowFilter } from './key.js'
import { Type } from './type.js'

/** Lengths of a token's life that can be asked for, in seconds. */
export const MAX_TOKEN_SECONDS = 3600
/** The same of a token that opens a stream: it stands in a URL. */
export const MAX_STREAM_TOKEN_SECONDS = 300

/** What a token may do, of what the credential that asks for it may: everything that is left out stays as it is. */
const TokenWish = Type.Object(
  {
    role: Type.Optional(RoleSchema),
    read: Type.Optional(Patterns),
    write: Type.Optional(Patterns),
    collections: Type.Optional(
      Type.Array(Patterns.items, {
        minItems: 1,
        maxItems: 100,
        description: 'Instead of read and write: only these, with what is allowed in each',
      }),
    ),
    filter: Type.Optional(
      Type.Union([Type.String(), RowFilter], {
        description: 'Only documents that pass it, as in lists; beside the own one of the credential',
      }),
    ),
    expires_in: Type.Optional(
      Type.Integer({ minimum: 1, maximum: MAX_TOKEN_SECONDS, description: 'Seconds' }),
    ),
    for: Type.Optional(
      Type.Union([Type.Literal('api'), Type.Literal('stream')], {
        description: 'stream: to open a stream of one collection with ?access_token=',
      }),
    ),
    collection: Type.Optional(CollectionName),
  },
  { additionalProperties: false },
)
export type TokenRequest = Static<typeof TokenWish>

/** The same as a body, which may be left out; that reaches the validator as null. */
export const TokenBody = Type.Unsafe<TokenRequest | null>({ ...TokenWish, type: ['object', 'null'] })

export const TokenAnswer = Type.Object({
  token: Type.String(),
  expires_at: Type.String({ format: 'date-time' }),
})
export type TokenAnswer = Static<typeof TokenAnswer>

const Scope = Type.Array(Type.String())

/** The claims of this server's own tokens. Times are seconds since the epoch. */
export const TokenClaims = Type.Object({
  iss: Type.String(),
  aud: Type.String(),
  /** The id of the principal that asked for it: key:<id>, or token:<issuer>:<subject>. */
  sub: Type.String({ minLength: 1 }),
  /** The key it stands or falls with. */
  key: Type.Optional(Type.String({ minLength: 1 })),
  role: RoleSchema,
  scopes: Type.Object({ read: Scope, write: Scope }),
  /** A filter as text. */
  rows: Type.String(),
  use: Type.Union([Type.Literal('api'), Type.Literal('stream')]),
  /** Of a stream token: until when the stream may be open, when not only the key ends it. */
  until: Type.Optional(Type.Integer()),
  jti: Type.String({ minLength: 1 }),
  iat: Type.Integer(),
  exp: Type.Integer(),
})
export type TokenClaims = Static<typeof TokenClaims>

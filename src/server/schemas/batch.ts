import type { Static } from 'typebox'
import { Type } from './type.js'

const Fields = Type.Record(Type.String(), Type.Unknown())
const Id = Type.String({ minLength: 1 })
const IfVersion = Type.Optional(
  Type.Integer({
    minimum: 1,
    maximum: Number.MAX_SAFE_INTEGER,
    description: 'Only when the stored version is this one',
  }),
)

const operations = [
  Type.Object({ op: Type.Literal('create'), item: Fields }, { additionalProperties: false }),
  Type.Object(
    { op: Type.Literal('put'), id: Id, item: Fields, if_version: IfVersion },
    { additionalProperties: false },
  ),
  Type.Object(
    { op: Type.Literal('patch'), id: Id, patch: Fields, if_version: IfVersion },
    { additionalProperties: false },
  ),
  Type.Object({ op: Type.Literal('delete'), id: Id, if_version: IfVersion }, { additionalProperties: false }),
]

export type BatchOperation = Static<(typeof operations)[number]>

// oneOf with a discriminator, so that a fault is told of the operation that was meant and not of all four.
export const BatchOperation = Type.Unsafe<BatchOperation>({
  type: 'object',
  required: ['op'],
  discriminator: { propertyName: 'op' },
  oneOf: operations,
})

export const MAX_BATCH = 1000

export const BatchBody = Type.Object(
  { operations: Type.Array(BatchOperation, { minItems: 1, maxItems: MAX_BATCH }) },
  { additionalProperties: false },
)

import { Type as TypeBox } from 'typebox'
import { Value } from 'typebox/value'
import { expect, test } from 'vitest'
import { Type } from '../../../src/server/schemas/type.js'

type Types = typeof Type
const described = { description: 'what it is' }
const pair = (type: Types) => type.Object({ a: type.String(), b: type.Optional(type.Integer()) }, described)

test.each<[name: string, schema: (type: Types) => object]>([
  ['String', (type) => type.String({ minLength: 1, maxLength: 9 })],
  ['Integer', (type) => type.Integer({ minimum: 0 })],
  ['Number', (type) => type.Number()],
  ['Boolean', (type) => type.Boolean({ default: true })],
  ['Null', (type) => type.Null(described)],
  ['Unknown', (type) => type.Unknown(described)],
  ['Literal', (type) => type.Array(type.Literal('x', described), { maxItems: 2 })],
  ['Literal of a number', (type) => type.Literal(1)],
  ['Union', (type) => type.Union([type.String(), type.Null()], described)],
  ['Record', (type) => type.Record(type.String(), type.Unknown(), { maxProperties: 3 })],
  ['Object', pair],
  ['Object of nothing that must be there', (type) => type.Object({ a: type.Optional(type.Null()) })],
  ['Partial', (type) => type.Partial(pair(type) as never, { additionalProperties: false })],
  ['Omit', (type) => type.Omit(pair(type) as never, ['a'] as never, described)],
  ['Pick', (type) => type.Pick(pair(type) as never, ['b'] as never)],
  ['Unsafe', (type) => type.Unsafe({ type: ['object', 'null'] })],
])('%s is what TypeBox makes of it', (_name, schema) => {
  expect(schema(Type)).toEqual(schema(TypeBox))
  // Whether it is optional shows in the object that has it.
  const holding = (type: Types) =>
    type.Object({ it: schema(type), maybe: type.Optional(schema(type)) } as never)
  expect(holding(Type)).toEqual(holding(TypeBox))
})

test("TypeBox's own check takes it", () => {
  const faults = (type: Types) =>
    Value.Errors(pair(type), { b: 1.5 }).map((fault) => `${fault.instancePath} ${fault.keyword}`)
  expect(Value.Check(pair(Type), { a: 'x' })).toBe(true)
  expect(faults(Type).length).toBeGreaterThan(0)
  expect(faults(Type)).toEqual(faults(TypeBox))
})

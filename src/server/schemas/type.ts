import type { Type as TypeBox } from 'typebox'

type Schema = object
type Properties = Readonly<Record<string, Schema>>
type Described = { readonly properties: Properties }
type Names = readonly string[]

/** How TypeBox marks a property that may be absent; hidden, so that it is in no schema that is printed. */
const OPTIONAL = '~optional'

function optional(schema: Schema): Schema {
  return Object.defineProperty({ ...schema }, OPTIONAL, { value: true })
}

function object(properties: Properties, options?: Schema): Schema {
  const required = Object.keys(properties).filter((name) => !(OPTIONAL in (properties[name] as Schema)))
  return { type: 'object', ...(required.length > 0 && { required }), properties, ...options }
}

function partial({ properties }: Described, options?: Schema): Schema {
  const all = Object.entries(properties).map(([name, schema]) => [name, optional(schema)])
  return object(Object.fromEntries(all), options)
}

function only({ properties }: Described, wanted: (name: string) => boolean, options?: Schema): Schema {
  return object(Object.fromEntries(Object.entries(properties).filter(([name]) => wanted(name))), options)
}

const schemas = {
  String: (options?: Schema) => ({ type: 'string', ...options }),
  Integer: (options?: Schema) => ({ type: 'integer', ...options }),
  Number: (options?: Schema) => ({ type: 'number', ...options }),
  Boolean: (options?: Schema) => ({ type: 'boolean', ...options }),
  Null: (options?: Schema) => ({ type: 'null', ...options }),
  Unknown: (options?: Schema) => ({ ...options }),
  Literal: (value: unknown, options?: Schema) => ({ type: typeof value, const: value, ...options }),
  Union: (anyOf: Schema[], options?: Schema) => ({ anyOf, ...options }),
  Array: (items: Schema, options?: Schema) => ({ type: 'array', items, ...options }),
  Object: object,
  Optional: optional,
  /** With any text as key; that is all it is used for. */
  Record: (_key: Schema, value: Schema, options?: Schema) => ({
    type: 'object',
    patternProperties: { '^.*$': value },
    ...options,
  }),
  Partial: partial,
  Omit: (from: Described, names: Names, options?: Schema) =>
    only(from, (name) => !names.includes(name), options),
  Pick: (from: Described, names: Names, options?: Schema) =>
    only(from, (name) => names.includes(name), options),
  Unsafe: (schema: Schema) => schema,
}

/**
 * `Type` of TypeBox, as far as it is used here: the types are TypeBox's own, the schemas equal those that it makes.
 * TypeBox makes them with 370 modules, and reading these took a sixth of a server's start. What checks values by such
 * schemas, `typebox/value`, is still its own, loaded when it is needed.
 */
export const Type = schemas as unknown as Pick<typeof TypeBox, keyof typeof schemas>

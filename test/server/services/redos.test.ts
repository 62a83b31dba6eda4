import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import type { DualstoreError } from '../../../src/server/errors.js'
import { compileItemValidator } from '../../../src/server/services/item-validator.js'
import { testDatabase } from '../../support/database.js'
import { call } from '../../support/http.js'
import { testServer } from '../../support/server.js'

/** Generous on a busy machine; every text below would take a backtracking engine minutes to centuries. */
const SOON_MS = 3000

const compile = (field: object) => compileItemValidator({ type: 'object', properties: { a: field } })

/** Whether the text is accepted; fails when that takes long. */
function accepts(validate: ReturnType<typeof compile>, text: string): boolean {
  const started = performance.now()
  const fault = validate({ a: text }, 'body')
  expect(performance.now() - started).toBeLessThan(SOON_MS)
  return fault === undefined
}

/** Expressions with the text that makes a backtracking engine hang (OWASP, "Regular expression Denial of Service"). */
const evil: [string, string][] = [
  ['^(a+)+$', 'a'],
  ['^([a-zA-Z]+)*$', 'a'],
  ['^(a|aa)+$', 'a'],
  ['^(a|a?)+$', 'a'],
  ['^(.*a){30}$', 'a'],
  ['^(([a-z])+.)+[A-Z]([a-z])+$', 'a'],
  ['^(\\w+\\s?)*$', 'word '],
  ['^\\s*(\\S+\\s*)*;$', 'x '],
  [
    '^([a-zA-Z0-9])(([\\-.]|[_]+)?([a-zA-Z0-9]+))*(@){1}[a-z0-9]+[.]{1}(([a-z]{2,3})|([a-z]{2,3}[.]{1}[a-z]{2,3}))$',
    'a',
  ],
  ['^(?:(?:(?:0?[13578]|1[02])(\\/|-)31)\\1?)*$'.replace('\\1?', ''), '1/31'],
  ['(x+x+)+y', 'x'],
  ['^(\\d+)*[^\\d]$', '1'],
  ['^(([^<>]+)|<[^>]*>)*$', 'a<b>'],
  ['(?:.*,)*.*=', 'a,'],
  ['^[\\s\\u200c]+|[\\s\\u200c]+$', ' '],
]

describe('patterns of a collection are tried in linear time', () => {
  test.each(evil)('%s', (pattern, unit) => {
    const validate = compile({ type: 'string', pattern })
    accepts(validate, `${unit.repeat(100_000)}\u0001!`)
    accepts(validate, `${unit.repeat(100_000)}\n`)
  })

  test('in patternProperties and propertyNames too', () => {
    const names = compileItemValidator({
      type: 'object',
      patternProperties: { '^(a+)+$': { type: 'number' } },
      propertyNames: { pattern: '^(a|aa)+!?$' },
    })
    const key = 'a'.repeat(50_000)
    const started = performance.now()
    expect(names({ [key]: 1, [`${key}!`]: 'x' }, 'body')).toBeUndefined()
    expect(names({ [key]: 'x' }, 'body')).toMatchObject({ message: 'must be number' })
    expect(names({ [`${key}!!`]: 1 }, 'body')).toBeDefined()
    expect(performance.now() - started).toBeLessThan(SOON_MS)
  })

  test('each field has its own', () => {
    const validate = compileItemValidator({
      type: 'object',
      properties: { a: { type: 'string', pattern: '^a$' }, b: { type: 'string', pattern: '^b$' } },
    })
    expect(validate({ a: 'a', b: 'b' }, 'body')).toBeUndefined()
    expect(validate({ a: 'b' }, 'body')?.field).toBe('body.a')
    expect(validate({ b: 'a' }, 'body')?.field).toBe('body.b')
  })

  test('they mean what they mean in ECMA 262', () => {
    const cases: [string, string[], string[]][] = [
      ['b+', ['abc', 'b'], ['a', '']],
      ['^\\p{Lu}\\u00e9$', ['É\u00e9', 'A\u00e9'], ['a\u00e9']],
      ['^[^\\0-\\x1f]+$', ['a b'], ['a\tb']],
      ['^.$', ['\u{1f600}', 'x'], ['ab', '\n']],
      ['^(?<year>\\d{4})-\\d\\d$', ['2024-01'], ['2024-1']],
      ['^\\w+\\/\\w+$', ['a/b'], ['a\\b']],
      ['a$', ['a'], ['a\n']],
    ]
    for (const [pattern, good, bad] of cases) {
      const validate = compile({ type: 'string', pattern })
      for (const text of good) expect(accepts(validate, text), `${pattern} ${text}`).toBe(true)
      for (const text of bad) expect(accepts(validate, text), `${pattern} ${text}`).toBe(false)
    }
  })

  test.each([
    ['a look-ahead', '^(?=a)b', 'a.pattern'],
    ['a look-behind', '(?<=a)b', 'a.pattern'],
    ['a back-reference', '^(a)\\1$', 'a.pattern'],
    ['a named back-reference', '^(?<x>a)\\k<x>$', 'a.pattern'],
    ['repetitions beyond 1000', '^a{1001}$', 'a.pattern'],
    ['repetitions that multiply', '^((a{100}){100}){100}$', 'a.pattern'],
  ])('%s is refused, and the field named', (_name, pattern, place) => {
    const refusal = refused({ type: 'object', properties: { a: { type: 'string', pattern } } })
    expect(refusal).toMatchObject({
      code: 'INVALID_DEFINITION',
      details: [{ field: `schema.properties.${place}`, message: expect.stringContaining('RE2') }],
    })
    expect(
      refused({ type: 'object', patternProperties: { [pattern]: { type: 'number' } } }).details?.[0]?.field,
    ).toBe('schema.patternProperties')
  })

  test('syntax that only RE2 knows is refused as what no pattern is', () => {
    for (const pattern of ['(?i)a', '\\Aa', '\\z', '[[:alpha:]]', '\\Qa\\E', '('])
      expect(refused({ type: 'object', properties: { a: { type: 'string', pattern } } })).toMatchObject({
        code: 'INVALID_DEFINITION',
      })
  })
})

test('formats do not hang or fail on any text', () => {
  const heads = ['', 'http://', 'a@', '#/', '0/', '::', 'P', '1970-01-01T00:00:00.', 'http://a@', 'http://[']
  const units = ['a', '1', 'a.', 'a-', 'a:', '/a', '::', '%41', 'a@a.', '{a}', '~0', 'AAAA', '\u00e9', '(a']
  let tried = 0
  for (const format of formats) {
    const validate = compile({ type: 'string', format })
    for (const head of heads)
      for (const unit of units) {
        for (const length of [2000, 60_000])
          accepts(validate, `${head}${unit.repeat(length / unit.length)}\\`)
        tried += 2
      }
  }
  expect(tried).toBe(formats.length * heads.length * units.length * 2)
}, 120_000)

const formats = [
  ...[
    'date',
    'time',
    'date-time',
    'iso-time',
    'iso-date-time',
    'duration',
    'uri',
    'uri-reference',
    'uri-template',
  ],
  ...[
    'url',
    'email',
    'hostname',
    'ipv4',
    'ipv6',
    'regex',
    'uuid',
    'json-pointer',
    'json-pointer-uri-fragment',
  ],
  ...['relative-json-pointer', 'byte', 'password', 'binary'],
]

test('formats still tell what fits from what does not', () => {
  const cases: [string, string, string][] = [
    ['date', '2024-02-29', '2023-02-29'],
    ['date-time', '2024-02-29T10:00:00Z', '2024-02-30T10:00:00Z'],
    ['email', 'a@b.example', 'a@b@c'],
    ['uri', 'https://a.example/b?c#d', 'a b'],
    ['url', 'https://a.example/b', 'nothing'],
    ['uuid', randomUUID(), 'x'],
    ['byte', 'aGVsbG8=', 'aGVsbG8'],
    ['byte', 'A'.repeat(4_000_000), `${'A'.repeat(4_000_003)}!`],
    ['byte', '', '===='],
  ]
  for (const [format, good, bad] of cases) {
    const validate = compile({ type: 'string', format })
    expect([accepts(validate, good), accepts(validate, bad)], format).toEqual([true, false])
  }
})

test('uniqueItems compares a twenty thousand objects at once, whatever the order of their keys', () => {
  const validate = compile({ type: 'array', uniqueItems: true })
  const items = Array.from({ length: 20_000 }, (_, n) => ({ n, deep: [{ n }] }))
  const started = performance.now()
  expect(validate({ a: items }, 'body')).toBeUndefined()
  expect(validate({ a: [...items, { deep: [{ n: 7 }], n: 7 }] }, 'body')).toMatchObject({
    field: 'body.a',
    message: 'must NOT have duplicate items',
  })
  expect(performance.now() - started).toBeLessThan(SOON_MS)
  expect(validate({ a: [1, '1', [1], { 1: 1 }, null, true, [[1]]] }, 'body')).toBeUndefined()
  expect(compile({ type: 'array', uniqueItems: false })({ a: [1, 1] }, 'body')).toBeUndefined()
})

test('a collection that was stored with such a pattern goes on working, and its change is refused', async () => {
  const { url: databaseUrl, pool } = await testDatabase()
  const first = await testServer('embedded', { databaseUrl })
  const schema = {
    type: 'object',
    properties: { a: { type: 'string' }, b: { type: 'string', pattern: '^[a-z]$' } },
  }
  expect((await call(first, 'POST', '/api/v1/collections', { body: { name: 'olds', schema } })).status).toBe(
    201,
  )
  await pool.query(
    `UPDATE dualstore.collections
     SET definition = jsonb_set(definition, '{schema,properties,a,pattern}', '"^(?!x)"') WHERE name = 'olds'`,
  )
  const second = await testServer('embedded', { databaseUrl })
  expect((await call(second, 'POST', '/api/v1/olds', { body: { a: 'a' } })).status).toBe(201)
  expect((await call(second, 'POST', '/api/v1/olds', { body: { a: 'x' } })).status).toBe(400)
  const changed = await call(second, 'PATCH', '/api/v1/collections/olds', { body: { label: 'Old' } })
  expect(changed.json).toMatchObject({
    code: 'INVALID_DEFINITION',
    details: [{ field: 'schema.properties.a.pattern' }],
  })
})

function refused(schema: Record<string, unknown>): DualstoreError {
  try {
    compileItemValidator(schema)
  } catch (error) {
    return error as DualstoreError
  }
  throw new Error(`${JSON.stringify(schema)} was accepted`)
}

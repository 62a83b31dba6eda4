import type { CodeOptions } from 'ajv'
import type * as re2 from 're2js'
import { lazily } from '../lazy.js'

type RegExpEngine = NonNullable<CodeOptions['regExp']>
interface Compiled {
  test(text: string): boolean
  toString(): string
}

/** A pattern of a JSON Schema that cannot be tried in time linear in the text. */
export class UnsafePattern extends Error {
  readonly pattern: string

  constructor(pattern: string, reason: string) {
    super(reason)
    this.pattern = pattern
  }
}

/**
 * Reads a pattern in the syntax of JSON Schema (ECMA 262, with `u`) for RE2, whose time is linear in the text.
 * @throws SyntaxError for what is no pattern, UnsafePattern for one that only backtracking can try: look-around,
 * back-references, more than 1000 repetitions.
 */
export function linearPattern(pattern: string): Compiled {
  // RE2 knows syntax that ECMA 262 does not, such as \A and (?i): schemas must mean the same to everybody.
  new RegExp(pattern, 'u')
  // The one back-reference that RE2 would read as letters.
  if (/(?:^|[^\\])(?:\\\\)*\\k</.test(pattern)) throw new UnsafePattern(pattern, 'a back-reference')
  const { RE2JS } = load()
  let compiled: re2.RE2JS
  try {
    compiled = RE2JS.compile(RE2JS.translateRegExp(pattern))
  } catch (error) {
    throw new UnsafePattern(pattern, (error as Error).message.replace(/^error parsing regexp: /, ''))
  }
  // Ajv keeps one expression for equal texts.
  return { test: (text) => compiled.test(text), toString: () => pattern }
}

/** Ajv's engine that takes only linear patterns. */
export const linearOnly: RegExpEngine = Object.assign(linearPattern, { code: 'linearOnly' })

/** Ajv's engine for definitions that are stored already: what is not linear is tried by backtracking, and told. */
export function linearWherePossible(onUnsafe: (pattern: string) => void): RegExpEngine {
  const engine = (pattern: string): Compiled => {
    try {
      return linearPattern(pattern)
    } catch (error) {
      if (!(error instanceof UnsafePattern)) throw error
      onUnsafe(pattern)
      return new RegExp(pattern, 'u')
    }
  }
  return Object.assign(engine, { code: 'linearWherePossible' })
}

/** Where a schema has this pattern: `properties.name.pattern`. */
export function placeOfPattern(schema: unknown, pattern: string): string | undefined {
  if (typeof schema !== 'object' || schema === null) return undefined
  for (const [key, member] of Object.entries(schema)) {
    if (key === 'pattern' && member === pattern) return key
    if (key === 'patternProperties' && Object.hasOwn(Object(member), pattern)) return key
    const inner = placeOfPattern(member, pattern)
    if (inner !== undefined) return `${key}.${inner}`
  }
  return undefined
}

/** Only who meets a pattern pays for the engine; the registry compiles where nothing can be awaited. */
const load = lazily<typeof re2>('re2js')

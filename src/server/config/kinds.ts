import { isIP } from 'node:net'

type NotText = 'number' | 'boolean' | 'list'

/** How a setting's text is read. `parse` returns undefined for text that is not allowed. */
export interface Kind<T> {
  /** What a file or a caller may give besides text; YAML's `1.0` for a text would lose its zero unseen. */
  also?: NotText | readonly NotText[]
  /** What is allowed, in words that finish "must be …". */
  allowed: string
  parse(text: string): T | undefined
}

export const text: Kind<string> = {
  allowed: 'a non-empty text',
  parse: (value) => (value === '' ? undefined : value),
}

const truths: ReadonlyMap<string, boolean> = new Map([
  ['true', true],
  ['false', false],
  ['1', true],
  ['0', false],
  ['yes', true],
  ['no', false],
  ['on', true],
  ['off', false],
])

// "false" is false: the legacy server took any non-empty text as true (defect 8).
export const flag: Kind<boolean> = {
  also: 'boolean',
  allowed: 'true or false (also 1 or 0, yes or no, on or off)',
  parse: (value) => truths.get(value.toLowerCase()),
}

/** A whole number between two bounds, both allowed. */
export function integer(min: number, max: number, unit = ''): Kind<number> {
  return {
    also: 'number',
    allowed: `a whole number from ${min} to ${max}${unit && ` (${unit})`}`,
    parse: (value) => {
      const number = Number(value)
      return /^-?\d+$/.test(value) && number >= min && number <= max ? number : undefined
    },
  }
}

export function oneOf<const T extends string>(...values: readonly T[]): Kind<T> {
  return {
    allowed: `one of ${values.join(', ')}`,
    parse: (value) => values.find((candidate) => candidate === value),
  }
}

export const list: Kind<readonly string[]> = {
  also: 'list',
  allowed: 'a comma-separated list',
  parse: (value) => {
    const parts = value.split(',').map((part) => part.trim())
    return parts.every((part) => part !== '') ? parts : undefined
  },
}

/** A day or a moment, kept as ISO 8601 UTC with milliseconds. */
export const date: Kind<string> = {
  allowed: 'an ISO 8601 date such as 2027-06-30 or 2027-06-30T00:00:00Z',
  parse: (value) => {
    const whole = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/.test(value)
    const time = whole ? new Date(value) : undefined
    if (time === undefined || Number.isNaN(time.getTime())) return undefined
    // JavaScript reads February 30th as March 2nd.
    return value.length > 10 || time.toISOString().startsWith(value) ? time.toISOString() : undefined
  },
}

/** A connection string of one of the given schemes. */
export function url(...schemes: readonly string[]): Kind<string> {
  return {
    allowed: `a URL that starts with ${schemes.map((scheme) => `${scheme}://`).join(' or ')}`,
    parse: (value) => (schemes.some((scheme) => value.startsWith(`${scheme}://`)) ? value : undefined),
  }
}

/** A path that starts with a slash and does not end with one. */
export const path: Kind<string> = {
  allowed: 'a path such as /api/v1, with a slash in front and none behind',
  parse: (value) => (/^(\/[\w.~-]+)+$/.test(value) ? value : undefined),
}

/** Letters, digits, dots, dashes and underscores: safe in the name of a MongoDB collection. */
export const name: Kind<string> = {
  allowed: 'letters, digits, dots, dashes and underscores, at most 60 of them',
  parse: (value) => (/^[\w.-]{1,60}$/.test(value) ? value : undefined),
}

/** The same without dots, which MongoDB refuses in the name of a database. */
export const databaseName: Kind<string> = {
  allowed: 'letters, digits, dashes and underscores, at most 60 of them',
  parse: (value) => (/^[\w-]{1,60}$/.test(value) ? value : undefined),
}

/** Names that Fastify's address matching knows beside addresses. */
const NAMED_RANGES = new Set(['loopback', 'linklocal', 'uniquelocal'])

/** Which proxies are believed: none, all, a number of hops, or those with one of the addresses. */
export const proxies: Kind<boolean | number | readonly string[]> = {
  also: ['boolean', 'number', 'list'],
  allowed:
    'true, false, a number of proxies up to 100, or a list of addresses and ranges such as 10.0.0.0/8,::1,loopback',
  parse: (value) => {
    // As everywhere, but 1 is one proxy.
    const word = /^\d/.test(value) ? undefined : flag.parse(value)
    if (word !== undefined) return word
    if (/^\d{1,3}$/.test(value)) return Number(value) <= 100 ? Number(value) : undefined
    const ranges = list.parse(value)
    return ranges?.every(isRange) ? ranges : undefined
  },
}

function isRange(text: string): boolean {
  if (NAMED_RANGES.has(text)) return true
  const [address = '', bits, ...rest] = text.split('/')
  const family = isIP(address)
  if (family === 0 || rest.length > 0) return false
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128))
}

/** A part of a whole. */
export const share: Kind<number> = {
  also: 'number',
  allowed: 'a number from 0 to 1',
  parse: (value) => {
    const number = Number(value)
    return /^\d*\.?\d+$/.test(value) && number <= 1 ? number : undefined
  },
}

/** Where a project of Sentry takes reports: https://<key>@<host>/<project>. */
export const dsn: Kind<string> = {
  allowed: 'a DSN such as https://key@host/42',
  parse: (value) => (/^https?:\/\/\w+(:\w+)?@[^/@\s]+(\/[^?#\s]+)*\/\d+$/.test(value) ? value : undefined),
}

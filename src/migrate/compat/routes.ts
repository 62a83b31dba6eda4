import { shippedCollections } from '../../server/schemas/shipped-collections.js'

/** What a request asks for, in terms of the legacy contract, section 2. */
export type Route =
  | { kind: 'index' | 'health' | 'debug' | 'preflight' | 'unknown' }
  | { kind: 'list'; collection: string; query: URLSearchParams }
  | { kind: 'item'; collection: string; id: string }
  | { kind: 'create'; collection: string }
  | { kind: 'stream'; collection: string; query: URLSearchParams }
  /** A method on a path of the legacy server that it did not route there. */
  | { kind: 'method' }

export const legacyCollections = shippedCollections.map(({ name }) => name)

/** Ids that lists made up anew for each request (defect 2): `msg_<session>_<n>_<now>`. */
export const MADE_UP_ID = /^(msg|task|event)_.+_\d+_\d{13}$/

const outside: Readonly<Record<string, Route['kind']>> = {
  '/': 'index',
  '/health': 'health',
  '/debug/dualstore-data': 'debug',
}

/** Which of the legacy server's routes a request is for. */
export function routeOf(method: string, path: string): Route {
  const { pathname, searchParams: query } = partsOf(path)
  if (method === 'OPTIONS') return { kind: 'preflight' }
  const reads = method === 'GET' || method === 'HEAD'
  const fixed = outside[pathname]
  if (fixed !== undefined) return reads ? ({ kind: fixed } as Route) : { kind: 'method' }
  const [first = '', second, ...rest] = pathname.startsWith('/api/v1/') ? pathname.slice(8).split('/') : []
  if (rest.length > 0) return { kind: 'unknown' }
  if (first === 'stream' && second !== undefined) {
    if (!legacyCollections.includes(second)) return { kind: 'unknown' }
    return reads ? { kind: 'stream', collection: second, query } : { kind: 'method' }
  }
  if (!legacyCollections.includes(first)) return { kind: 'unknown' }
  const collection = first
  if (second !== undefined)
    return reads ? { kind: 'item', collection, id: decoded(second) } : { kind: 'method' }
  if (method === 'POST') return { kind: 'create', collection }
  return reads ? { kind: 'list', collection, query } : { kind: 'method' }
}

/** True when a request changes nothing on either server. */
export function isRead(method: string): boolean {
  return ['GET', 'HEAD', 'OPTIONS'].includes(method.toUpperCase())
}

/** The path and the query of what a client asked for, which may be anything that HTTP lets through. */
export function partsOf(path: string): Pick<URL, 'pathname' | 'searchParams'> {
  const text = `http://host${path}`
  return URL.canParse(text) ? new URL(text) : { pathname: path, searchParams: new URLSearchParams() }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
